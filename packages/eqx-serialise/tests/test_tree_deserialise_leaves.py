"""Files of leaves are read as Equinox reads them, but for what would be a lie."""

import io
import pickle
import struct

import jax
import jax.numpy as jnp
import jax.random as jr
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import eqx_serialise
from eqx_serialise import tree_deserialise_leaves, tree_serialise_leaves


def written(tree):
    file = io.BytesIO()
    tree_serialise_leaves(file, tree)
    return file.getvalue()


def read(content, like, **kwargs):
    return tree_deserialise_leaves(io.BytesIO(content), like, **kwargs)


def identical(one, other):
    same = type(one) is type(other) and np.shape(one) == np.shape(other)
    return same and np.asarray(one).tobytes() == np.asarray(other).tobytes()


LEAVES = {
    "jax": jnp.arange(3.0),
    "bfloat16": jnp.array([1.5, -0.0], jnp.bfloat16),
    "float8": jnp.array([1.5, -0.0], jnp.float8_e4m3fn),
    "int4": jnp.array([7, -8], jnp.int4),
    "bool": jnp.array([True]),
    "numpy": np.arange(3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(12).reshape(3, 4)[:, ::2],
    "big-endian": np.arange(2, dtype=">f4"),
    "numpy bfloat16": np.ones(2, jnp.bfloat16),
    "numpy float8": np.ones(2, jnp.float8_e5m2),
    "empty": jnp.zeros((0, 3)),
    "numpy empty": np.zeros((2, 0)),
    "0-d": jnp.zeros(()),
    "(1, 1)": jnp.ones((1, 1)),
    "text": np.array(["a", "bc"]),
    "record": np.zeros(2, [("a", "f4"), ("b", "i8", 2)]),
    "float": 1e-8,
    "-0.0": -0.0,
    "nan": float("nan"),
    "int": -(2**62),
    "flag": True,
    "complex": 1j,
    "numpy scalar": np.float32(1.1),
    "bfloat16 scalar": ml_dtypes.bfloat16(1.5),
    "float8 scalar": ml_dtypes.float8_e5m2(1.5),
    "None": None,
    "str": "x",
    "function": jax.nn.relu,
}


@pytest.mark.parametrize("name", LEAVES)
def test_what_was_written_comes_back(name):
    leaf = LEAVES[name]
    before, back, after = read(written([1.0, leaf, 2]), [0.0, leaf, 0])
    assert (before, after) == (1.0, 2)
    if isinstance(leaf, jax.Array):
        assert back.dtype == leaf.dtype
    assert back is leaf if leaf is None or callable(leaf) or isinstance(leaf, str) else identical(back, leaf)


@pytest.mark.parametrize("name", [name for name in LEAVES if name not in {"record"}])
def test_what_equinox_wrote_is_read(name):
    equinox = pytest.importorskip("equinox")
    tree = {"a": LEAVES[name], "b": [2]}
    file = io.BytesIO()
    equinox.tree_serialise_leaves(file, tree)
    back = read(file.getvalue(), tree)
    assert back["b"] == [2]
    assert written(back) == file.getvalue()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "int4", "bool"])
def test_a_shape_stands_for_a_jax_array(dtype):
    array = jnp.ones((2, 3), dtype)
    back = read(written([array]), [jax.ShapeDtypeStruct((2, 3), dtype)])[0]
    assert isinstance(back, jax.Array)
    assert back.dtype == array.dtype
    assert identical(back, array)


def test_like_decides_between_jax_and_numpy():
    assert type(read(written([jnp.ones(2)]), [np.zeros(2, np.float32)])[0]) is np.ndarray
    assert isinstance(read(written([np.ones(2, np.float32)]), [jnp.zeros(2)])[0], jax.Array)


def test_a_model_with_state_and_its_shapes_are_read():
    nn, core_filter = pytest.importorskip("eqx_nn"), pytest.importorskip("eqx_filter")

    def build(key):
        return nn.make_with_state(nn.BatchNorm)(3, "batch", mode="batch"), nn.MLP(2, 3, 4, 2, key=key)

    model = build(jr.key(0))
    for like in (build(jr.key(1)), core_filter.filter_eval_shape(build, jr.key(1))):
        back = read(written(model), like)
        assert written(back) == written(model)
        assert jax.tree.structure(back) == jax.tree.structure(model)


def test_it_works_within_jit():
    content = written([jnp.arange(3.0), 2.5])
    array, number = jax.jit(lambda x: read(content, [x, 0.0]))(jnp.zeros(3))
    np.testing.assert_array_equal(array, [0, 1, 2])
    assert number == 2.5
    with pytest.raises(RuntimeError, match=r"has changed shape from \(4,\) in `like` to \(3,\) on disk"):
        jax.jit(lambda x: read(content, [x, 0.0]))(jnp.zeros(4))


def test_like_is_left_as_it_is():
    like = {"w": np.zeros(3), "n": [0.5]}
    back = read(written({"w": np.ones(3), "n": [1.5]}), like)
    back["w"][:] = 7
    np.testing.assert_array_equal(like["w"], np.zeros(3))
    assert like["n"] == [0.5]


def test_one_file_may_hold_several_trees(tmp_path):
    with (tmp_path / "log").open("w+b") as file:
        tree_serialise_leaves(file, [1.5, jnp.ones(2)])
        tree_serialise_leaves(file, {"a": 3})
        file.seek(0)
        assert tree_deserialise_leaves(file, [0.0, jnp.zeros(2)])[0] == 1.5
        assert tree_deserialise_leaves(file, {"a": 0}) == {"a": 3}


def test_a_file_given_by_its_path_must_end_with_the_last_leaf(tmp_path):
    tree_serialise_leaves(tmp_path / "a", [1.5, 2.5])
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        tree_deserialise_leaves(tmp_path / "a", [0.0])
    assert str(error.value) == (
        f"`tree_deserialise_leaves(path_or_file='{tmp_path}/a.eqx')` must end with the last leaf of `like`; got more "
        "from byte 136 on. Build `like` just as the saved tree was built, or open the file yourself to read several "
        "trees from it."
    )


@pytest.mark.parametrize("cut", [1, 8, 100, 136])
def test_a_short_file_is_an_error_that_says_where_it_ends(cut):
    content = written([1.0, {"a": 2.0}])
    with pytest.raises(eqx_serialise.LeafError, match=r"ValueError: the end of the file, \d+ bytes early") as error:
        read(content[:-cut], [0.0, {"a": 0.0}])
    start = (
        "Error at leaf with path (SequenceKey(idx=1), DictKey(key='a')), from byte 136 on in `tree_deserialise_leaves("
    )
    assert str(error.value).startswith(start)
    assert isinstance(error.value, RuntimeError)


@pytest.mark.parametrize(
    ("tree", "like", "text"),
    [
        (jnp.ones(3), jnp.ones(4), "path (SequenceKey(idx=0),) has changed shape from (4,) in `like` to (3,) on disk"),
        (jnp.ones((1, 1)), jnp.ones(1), "has changed shape from (1,) in `like` to (1, 1) on disk"),
        (
            jnp.ones(3),
            jnp.ones(3, int),
            "path (SequenceKey(idx=0),) has changed dtype from int32 in `like` to float32 on",
        ),
        (np.ones(3), np.ones(3, "f4"), "has changed dtype from float32 in `like` to float64 on disk"),
        (jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.float16), "an array of dtype |V2, which JAX has not"),
        (np.ones(2, jnp.bfloat16), np.ones(2, "f2"), "has changed dtype from float16 in `like` to |V2 on disk"),
    ],
)
def test_what_is_not_like_like_is_an_error(tree, like, text):
    with pytest.raises(RuntimeError) as error:
        read(written([tree]), [like])
    assert text in str(error.value)
    assert str(error.value.path) == "(SequenceKey(idx=0),)"


@pytest.mark.parametrize("found", [np.ones(2, "f4"), 3, None])
@pytest.mark.parametrize("like", [jnp.ones(2), jax.ShapeDtypeStruct((2,), "f4"), "word", 1.5, jax.nn.relu])
def test_what_is_of_another_type_is_an_error(found, like):
    with pytest.raises(RuntimeError, match=r"Deserialised leaf at path '\['a'\]\[0\]' has changed type from <class"):
        read(b"", {"a": [like]}, filter_spec=lambda file, leaf: found)


@pytest.mark.parametrize(
    ("value", "like", "expected"),
    [(1, 1.0, 1.0), (1.0, 1, 1), (1.1, np.float32(0), np.float32(1.1)), (True, 0, 1), (np.ones((1, 1)), 0.5, 1.0)],
)
def test_a_number_is_read_as_the_type_of_like(value, like, expected):
    back = read(written([value]), [like])[0]
    assert type(back) is type(like)
    assert back == expected


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [
        (1.5, 1, "ValueError: the number 1.5, which is no int"),
        (0.5, True, "ValueError: the number 0.5, which is no bool"),
        (300, np.int8(0), "number|bounds"),
        (float("nan"), 1, "cannot convert float NaN to integer"),
        (1j, 1.0, "TypeError"),
        (np.ones(3), 1.0, "ValueError"),
        (np.array([2**40]), jnp.ones(1, int), "numbers that do not fit into int32"),
    ],
)
def test_a_number_that_would_become_another_is_an_error(value, like, text):
    if jax.config.jax_enable_x64 and isinstance(like, jax.Array):
        pytest.skip("JAX has 64-bit arrays.")
    with pytest.raises(eqx_serialise.LeafError, match=text):
        read(written([value]), [like])


def record(header, version=b"\1\0", data=b""):
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header + data


def header(descr="'<f4'", shape="(1,)", fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()


def test_version_two_of_the_format_is_read():
    assert read(record(header("'<f8'", "()"), b"\2\0", struct.pack("<d", 2.5)), [0.0]) == [2.5]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "the end of the file, 8 bytes early"),
        (b"PK\3\4" + bytes(200), "no array: bytes 504b0304"),
        (b"\x80\x04" + pickle.dumps([1] * 50), "no array: bytes 8004"),
        (record(header(), b"\3\0"), r"an array in version \(3, 0\) of the npy format"),
        (record(header(), b"\2\0")[:10] + b"\xff\xff" + bytes(50), "a header of"),
        (record(b" " * 20_000), "a header of 20000 bytes"),
        (record(b"{" * 5000), "no header of an array"),
        (record(b"(" * 9000), "no header of an array"),
        (record(b"__import__('os').getcwd()"), "no header of an array"),
        (record(b"\xff\xfe"), "no header of an array|early"),
        (
            record(header("'|O'"), data=pickle.dumps([1] * 50)),
            "array of Python objects, which would have to be unpickled",
        ),
        (record(header(shape="(-1,)")), r"an array of shape \(-1,\)"),
        (record(header(shape="(10**13,)")), "no header of an array"),
        (record(header(shape="(10000000000000,)")), r"the end of the file, 40000000000000 bytes early"),
        (record(header(shape="(4611686018427387904, 16)")), r"the end of the file, \d+ bytes early"),
        (record(header(shape="'x'")), "no header of an array"),
    ],
)
@pytest.mark.parametrize("like", [jnp.ones(1), np.ones(1), 1.0], ids=["jax", "numpy", "float"])
def test_what_is_no_array_is_refused_before_anything_is_allocated(content, text, like):
    with pytest.raises(eqx_serialise.LeafError, match=text):
        read(content, [like])


@settings(max_examples=200)
@given(data=st.data())
def test_damage_is_an_error_or_another_number_and_never_worse(data):
    content = bytearray(written([np.arange(4.0), 1]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        array, number = read(bytes(content), [np.zeros(4), 0])
    except eqx_serialise.LeafError:
        return
    assert (array.dtype, array.shape, type(number)) == (np.dtype("f8"), (4,), int)


def test_a_file_that_reads_little_at_a_time_gives_everything():
    class Slow(io.BytesIO):
        def readinto(self, buffer):
            return super().readinto(memoryview(buffer)[:7])

    class OnlyReads:
        def __init__(self, content):
            file = io.BytesIO(content)
            self.seek, self.tell, self._file = file.seek, file.tell, file

        def read(self, size):
            return self._file.read(min(size, 7))

    for kind in (Slow, OnlyReads):
        np.testing.assert_array_equal(
            tree_deserialise_leaves(kind(written([np.arange(9.0)])), [np.zeros(9)])[0], np.arange(9)
        )


@pytest.mark.parametrize("file", [io.StringIO(), 3, None, b"name"])
def test_what_is_no_path_and_no_binary_file_is_refused(file):
    with pytest.raises(
        TypeError, match=r"`tree_deserialise_leaves\(path_or_file=...\)` must be a path or a binary file"
    ):
        tree_deserialise_leaves(file, [1])


def test_a_file_that_is_not_there_is_an_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.eqx"):
        tree_deserialise_leaves(tmp_path / "nothing", [])


def test_an_error_of_the_disk_is_no_fault_of_a_leaf():
    class Broken(io.BytesIO):
        def readinto(self, buffer):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        tree_deserialise_leaves(Broken(written([1])), [0])


def test_functions_for_parts_of_the_tree_read_them():
    def half(file, leaf):
        return type(leaf)(np.load(file).item() / 2)

    content = written({"a": [2.0, 4.0], "b": 3})
    spec = {"a": half, "b": eqx_serialise.default_deserialise_filter_spec}
    assert read(content, {"a": [0.0, 0.0], "b": 0}, filter_spec=spec) == {"a": [1.0, 2.0], "b": 3}
    skip = {"a": [half, half], "b": lambda file, leaf: leaf}
    assert read(content, {"a": [0.0, 0.0], "b": 9}, filter_spec=skip) == {"a": [1.0, 2.0], "b": 9}


def test_is_leaf_says_what_a_leaf_is():
    def spec(file, leaf):
        return None if leaf is None and file.read(1) == b"N" else file.read(1)[0]

    assert read(b"N\5", [None, 0], filter_spec=spec, is_leaf=lambda x: x is None) == [None, 5]


def test_what_is_no_function_is_refused():
    with pytest.raises(
        eqx_serialise.LeafError, match=r"`tree_deserialise_leaves\(filter_spec=...\)` must be a function"
    ):
        read(b"", [1.0], filter_spec=True)


def test_an_error_survives_the_way_to_another_process():
    with pytest.raises(eqx_serialise.LeafError) as error:
        read(b"", [1.0])
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.path) == (str(error.value), error.value.path)
