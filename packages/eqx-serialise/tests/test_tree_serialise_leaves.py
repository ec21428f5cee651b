"""Files of leaves are those of Equinox, byte for byte."""

import errno
import io
import os

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

import eqx_serialise
from eqx_serialise import tree_serialise_leaves


def written(tree, **kwargs):
    file = io.BytesIO()
    tree_serialise_leaves(file, tree, **kwargs)
    return file.getvalue()


def npy(*arrays):
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


dtypes = hnp.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufc" and dtype.itemsize <= 16)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
leaves = arrays | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.booleans() | st.complex_numbers() | st.none()
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(tree=trees)
def test_a_file_is_the_records_of_numpy_one_after_another(tree):
    assert written(tree) == npy(*jax.tree.leaves(tree))


LEAVES = {
    "jax": jnp.arange(3.0),
    "bfloat16": jnp.ones(2, jnp.bfloat16),
    "float8": jnp.ones(2, jnp.float8_e4m3fn),
    "int4": jnp.ones(2, jnp.int4),
    "numpy": np.arange(3),
    "fortran": np.asfortranarray(np.ones((2, 3))),
    "strided": np.arange(12).reshape(3, 4)[:, ::2],
    "big-endian": np.ones(2, ">f4"),
    "numpy bfloat16": np.ones(2, jnp.bfloat16),
    "empty": jnp.zeros((0, 3)),
    "0-d": jnp.zeros(()),
    "weak": jnp.asarray(1.0),
    "float": 1e-8,
    "int": -3,
    "bool": True,
    "complex": 1j,
    "numpy scalar": np.float32(1),
    "bfloat16 scalar": ml_dtypes.bfloat16(1.5),
    "text": np.array(["a", "bc"]),
    "None": None,
    "str": "x",
    "function": jax.nn.relu,
}


@pytest.mark.parametrize("name", LEAVES)
def test_equinox_writes_the_same_bytes(name):
    equinox = pytest.importorskip("equinox")
    tree = {"a": [1.0, LEAVES[name]], "b": jnp.ones(1)}
    file = io.BytesIO()
    equinox.tree_serialise_leaves(file, tree)
    assert written(tree) == file.getvalue()


@pytest.mark.parametrize("name", [name for name in LEAVES if name not in {"float8", "int4", "numpy bfloat16"}])
def test_equinox_reads_what_is_written(name):
    equinox = pytest.importorskip("equinox")
    tree = [1.0, LEAVES[name]]
    back = equinox.tree_deserialise_leaves(io.BytesIO(written(tree)), tree)
    assert written(back) == written(tree)


def test_a_model_is_written_as_equinox_writes_its_twin():
    equinox, eqx_nn = pytest.importorskip("equinox"), pytest.importorskip("eqx_nn")
    file = io.BytesIO()
    equinox.tree_serialise_leaves(file, equinox.nn.MLP(2, 3, 4, 2, key=jr.key(0)))
    assert written(eqx_nn.MLP(2, 3, 4, 2, key=jr.key(0))) == file.getvalue()


@pytest.mark.parametrize(
    ("name", "file"),
    [("a", "a.eqx"), ("b.x", "b.x"), ("c.", "c..eqx"), (".d", ".d.eqx"), ("e.eqx", "e.eqx"), ("f.b.c", "f.b.c")],
)
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "path"])
def test_a_name_without_a_suffix_gets_one(tmp_path, name, file, kind):
    path = kind(tmp_path / name if not name.endswith(".") else os.path.join(tmp_path, name))
    tree_serialise_leaves(path, [1.5])
    assert os.listdir(tmp_path) == [file]
    assert eqx_serialise.tree_deserialise_leaves(path, [0.0]) == [1.5]


def test_a_save_that_fails_keeps_the_old_file(tmp_path):
    tree_serialise_leaves(tmp_path / "a", [1.5])
    with pytest.raises(eqx_serialise.LeafError):
        tree_serialise_leaves(tmp_path / "a", [2.5, jr.key(0)])
    assert os.listdir(tmp_path) == ["a.eqx"]
    assert eqx_serialise.tree_deserialise_leaves(tmp_path / "a", [0.0]) == [1.5]


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "a.eqx").mkdir()
    with pytest.raises(OSError, match=r"`tree_serialise_leaves\(path_or_file='.*a.eqx'\)` must be a regular file"):
        tree_serialise_leaves(tmp_path / "a", [1])


@pytest.mark.parametrize("file", [io.StringIO(), 3, None, b"name"])
def test_what_is_no_path_and_no_binary_file_is_refused(file):
    with pytest.raises(TypeError, match=r"`tree_serialise_leaves\(path_or_file=...\)` must be a path or a binary file"):
        tree_serialise_leaves(file, [1])


def test_a_file_may_be_appended_to(tmp_path):
    with (tmp_path / "log").open("ab") as file:
        tree_serialise_leaves(file, [1.5])
        tree_serialise_leaves(file, [2])
    assert (tmp_path / "log").read_bytes() == npy(1.5, 2)


class LikeAnArray:
    def __jax_array__(self):
        return jnp.ones(2)


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        (jr.key(0), r"TypeError: .* must not be typed PRNG keys, .* got key<fry>\[\]. Use `eqx_serialise.save`"),
        (jax.ShapeDtypeStruct((2,), "f4"), "must be an array to be written; got `ShapeDtypeStruct`. Convert it"),
        (LikeAnArray(), "must be an array to be written; got `LikeAnArray`"),
        (2**70, "ValueError: an array of Python objects, of dtype object, which could only be pickled"),
        (np.array([None]), "ValueError: an array of Python objects"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_format_has_not_is_refused_with_its_path(leaf, text):
    with pytest.raises(eqx_serialise.LeafError, match=text) as error:
        written([1, {"a": leaf}])
    path = "(SequenceKey(idx=1), DictKey(key='a'))"
    assert str(error.value).startswith(f"Error at leaf with path {path}, in `tree_serialise_leaves`: ")
    assert str(error.value.path) == path
    assert isinstance(error.value, RuntimeError)
    assert isinstance(error.value.__cause__, (TypeError, ValueError))


def test_a_tracer_is_refused():
    with pytest.raises(eqx_serialise.LeafError, match="Error at leaf with path"):
        jax.jit(lambda x: written([x]))(jnp.ones(2))


def test_a_full_disk_is_no_fault_of_a_leaf():
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        tree_serialise_leaves(Full(), [1])


def twice(file, leaf):
    np.save(file, 2 * np.asarray(leaf))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (twice, (2.0, 4, 6)),
        ({"a": twice, "b": eqx_serialise.default_serialise_filter_spec}, (2.0, 4, 3)),
        ({"a": [twice, lambda file, leaf: None], "b": twice}, (2.0, 6)),
    ],
)
def test_functions_for_parts_of_the_tree_write_them(spec, expected):
    assert written({"a": [1.0, 2], "b": 3}, filter_spec=spec) == npy(*expected)


def test_is_leaf_says_what_a_leaf_is():
    def spec(file, leaf):
        file.write(b"N" if leaf is None else b"x")

    assert written([None, 1], filter_spec=spec, is_leaf=lambda x: x is None) == b"Nx"
    assert written([None, 1], filter_spec=spec) == b"x"


@pytest.mark.parametrize(("spec", "path"), [(True, 0), ({"a": [1, twice]}, 0), ({"a": [twice, None]}, None)])
def test_what_is_no_function_is_refused(spec, path):
    with pytest.raises((eqx_serialise.LeafError, ValueError)) as error:
        written({"a": [1.0, 2]}, filter_spec=spec)
    if path is not None:
        assert f"DictKey(key='a'), SequenceKey(idx={path})" in str(error.value)
        assert "`tree_serialise_leaves(filter_spec=...)` must be a function of a file and a leaf, or" in str(
            error.value
        )


@pytest.mark.parametrize("spec", [{"b": twice}, [twice], {"a": {"x": twice}}])
def test_what_is_no_prefix_is_refused(spec):
    with pytest.raises(ValueError, match=r"."):
        written({"a": [1.0, 2]}, filter_spec=spec)


def test_an_error_in_a_function_has_the_whole_path():
    def bad(file, leaf):
        raise ZeroDivisionError("boo")

    with pytest.raises(eqx_serialise.LeafError, match="ZeroDivisionError: boo") as error:
        written({"a": [[1.0], 2]}, filter_spec={"a": [bad, twice]})
    assert str(error.value.path) == "(DictKey(key='a'), SequenceKey(idx=0), SequenceKey(idx=0))"
