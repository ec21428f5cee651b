"""What `save` writes, and what it refuses."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

import eqx_serialise


def test_any_reader_of_safetensors_opens_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    tree = {"layers": [{"weight": jnp.arange(6.0).reshape(2, 3)}, {"bias": np.arange(3)}]}
    eqx_serialise.save(path, tree)
    with safetensors.safe_open(path, "numpy") as file:
        names = ["['layers'][0]['weight']", "['layers'][1]['bias']"]
        assert sorted(file.keys()) == names
        np.testing.assert_array_equal(file.get_tensor(names[0]), np.arange(6.0).reshape(2, 3))
        np.testing.assert_array_equal(file.get_tensor(names[1]), np.arange(3))


def test_metadata_of_the_user_is_there_for_every_reader(tmp_path):
    path = tmp_path / "model.safetensors"
    words = {"format": "flax", "note": 'a "note"\n\N{GREEK SMALL LETTER OMEGA}', "": ""}
    eqx_serialise.save(path, [jnp.ones(2)], metadata=words)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert words.items() <= metadata.items()
    assert metadata.keys() - words.keys() == {"eqx_serialise", "eqx_serialise.seal", "eqx_serialise.xxh3_128"}
    eqx_serialise.load(path, [jnp.ones(2)])


def test_no_pickle_and_no_path_to_code_is_written(saved):
    content = saved([jnp.ones(2), jax.nn.relu, 1.5, "word"])
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    ours = json.loads(header["__metadata__"]["eqx_serialise"])
    assert ours.keys() == {"version", "dtypes", "weak", "values", "nodes", "static"}
    assert ours["values"] == {"[2]": {"float": "1.5"}, "[3]": {"str": "word"}}
    assert ours["nodes"] == {".": {"class": "list"}}
    assert ours["static"] == {"[1]": {"function": "relu"}}


def test_tensors_are_where_jax_can_take_them_over(saved):
    sizes = [3, 16, 1, 64, 5, 32]
    tree = {f"{i}": np.ones(n, dtype) for i, n in enumerate(sizes) for dtype in ["f4"]}
    tree |= {"wide": np.ones(3), "byte": np.ones(7, np.int8), "half": np.ones(3, np.float16)}
    content = saved(tree)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert (8 + length) % 64 == 0
    for name, tensor in header.items():
        if name != "__metadata__":
            start, stop = tensor["data_offsets"]
            size = stop - start
            item = {"F64": 8, "F32": 4, "F16": 2, "I8": 1}[tensor["dtype"]]
            assert start % (64 if size % 64 == 0 else item) == 0


def test_the_same_tree_gives_the_same_bytes(saved):
    tree = {"b": jnp.ones(3), "a": [1, 2.5, np.ones(2)]}
    assert saved(tree) == saved(tree)


def test_a_file_is_written_from_where_it_stands_and_left_behind_the_checkpoint(saved):
    file = io.BytesIO()
    file.write(b"before")
    eqx_serialise.save(file, [jnp.ones(3)])
    file.write(b"after")
    assert file.getvalue() == b"before" + saved([jnp.ones(3)]) + b"after"


def test_an_unbuffered_file_that_writes_little_at_a_time_gets_everything(saved):
    class Slow(io.BytesIO):
        def write(self, content):
            return super().write(content[:7])

    file = Slow()
    eqx_serialise.save(file, [jnp.ones(30)])
    assert file.getvalue() == saved([jnp.ones(30)])


def test_a_file_for_appending_is_refused(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"before")
    with path.open("ab") as file, pytest.raises(ValueError, match=r"opened for appending\. Use mode"):
        eqx_serialise.save(file, [jnp.ones(3)])
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("file", [io.StringIO(), 3, None])
def test_what_is_no_path_and_no_binary_file_is_refused(file):
    with pytest.raises(TypeError, match=r"must be a path or a binary file; got `\w+`. Open .* `wb`"):
        eqx_serialise.save(file, [jnp.ones(3)])


def test_a_tracer_is_refused():
    @jax.jit
    def step(x):
        eqx_serialise.save(io.BytesIO(), {"x": x})

    with pytest.raises(TypeError, match=r"concrete arrays; got a tracer at `\['x'\]`. Call `save`"):
        step(jnp.ones(3))


def test_a_masked_array_is_refused():
    array = np.ma.MaskedArray([1.0, 2.0], [True, False])
    with pytest.raises(TypeError, match=r"plain arrays; got a masked array at `\[0\]`"):
        eqx_serialise.save(io.BytesIO(), [array])


class LooksLikeAnArray:
    def __array__(self, dtype=None, copy=None):
        return np.ones(3)


@pytest.mark.parametrize("leaf", [LooksLikeAnArray(), jax.ShapeDtypeStruct((3,), jnp.float32)])
def test_what_looks_like_an_array_is_not_left_out_without_a_word(leaf):
    with pytest.raises(TypeError, match=r"arrays of JAX or NumPy; got `\w+` at `\[0\]`. Convert"):
        eqx_serialise.save(io.BytesIO(), [leaf])


def test_classes_and_functions_are_left_out(round_trip):
    tree = [np.float32, jnp.float32, np.dtype("f4"), jax.nn.relu, b"bytes", object, ...]
    assert round_trip(tree) == tree


@pytest.mark.parametrize(
    ("metadata", "error", "match"),
    [
        ({"epoch": 3}, TypeError, "must map strings to strings; got 'epoch': `int`"),
        ({3: "epoch"}, TypeError, "must map strings to strings; got 3: `str`"),
        ({"eqx_serialise.x": ""}, ValueError, "must leave keys that start with `eqx_serialise`"),
        ({"a": "\ud800"}, ValueError, "must be text that UTF-8 can write; got .* lone surrogate"),
    ],
)
def test_metadata_that_cannot_be_written_is_refused(metadata, error, match):
    with pytest.raises(error, match=match):
        eqx_serialise.save(io.BytesIO(), [1], metadata=metadata)


def test_a_header_that_no_reader_takes_is_refused():
    with pytest.raises(ValueError, match=r"a header of at most 100000000 bytes; got 1\d{8}."):
        eqx_serialise.save(io.BytesIO(), [1], metadata={"a": "a" * 100_000_000})


def test_a_key_of_metadata_may_be_any_word(saved):
    safetensors.deserialize(saved([jnp.ones(2)], metadata={"__metadata__": "x"}))
