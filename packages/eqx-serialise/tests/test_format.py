"""The law of the format: whatever is saved comes back bit for bit, and another reader sees the same arrays."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import ml_dtypes
import numpy as np
import safetensors.numpy
from hypothesis import given
from hypothesis.extra import numpy as hnp

import eqx_serialise

NATIVE = ["bool", "float16", "float32", "float64", "bfloat16"]
NATIVE += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
SMALL = [
    f"float8_{name}" for name in ["e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu"]
]
SMALL += ["int2", "int4", "uint2", "uint4", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"]
BITS = {
    "bool": 1,
    "int2": 2,
    "uint2": 2,
    "int4": 4,
    "uint4": 4,
    "float4_e2m1fn": 4,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
}
ON_JAX = [name for name in [*NATIVE, *SMALL, "complex64", "complex128"] if not name.startswith("float6")]


@st.composite
def numpy_arrays(draw, names=(*NATIVE, *SMALL, "complex64", "complex128")):
    """Draw an array of any dtype, of any bits, laid out in any way."""
    dtype = np.dtype(draw(st.sampled_from(names)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    if dtype.name in BITS:
        raw = raw & (2 ** BITS[dtype.name] - 1)
        if dtype.name.startswith("int"):
            raw = raw.view(np.int8).astype(dtype).view(np.uint8)
    array = raw.view(dtype).reshape(shape)
    match draw(st.sampled_from(["as it is", "transposed", "reversed", "swapped"])):
        case "transposed":
            return array.T
        case "reversed":
            return array[tuple(slice(None, None, -1) for _ in shape)]
        case "swapped" if dtype.isbuiltin == 1:
            return array.astype(dtype.newbyteorder(">"))
    return array


@st.composite
def jax_arrays(draw):
    array = draw(numpy_arrays(ON_JAX).filter(lambda array: array.dtype.isnative))
    with jax.enable_x64(True):
        return jax.device_put(array)


@st.composite
def weak_arrays(draw):
    return jnp.full(draw(hnp.array_shapes(max_dims=2, max_side=2)), draw(st.sampled_from([0.5, 3, 2j])))


@st.composite
def keys(draw):
    impl = draw(st.sampled_from(["threefry2x32", "rbg", "unsafe_rbg"]))
    return jr.split(jr.key(draw(st.integers(0, 9)), impl=impl), draw(st.sampled_from([(), (2,), (0, 3)])))


values = st.integers() | st.floats() | st.complex_numbers() | st.booleans() | st.text(max_size=3) | st.none()
leaves = (
    numpy_arrays()
    | numpy_arrays().map(lambda a: a.reshape(-1)[0] if a.size else a)
    | jax_arrays()
    | weak_arrays()
    | keys()
    | values
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def is_key(leaf):
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def bits(leaf):
    """Return all that makes a leaf what it is."""
    if is_key(leaf):
        return str(jr.key_impl(leaf)), leaf.shape, np.asarray(jr.key_data(leaf)).tobytes()
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        array = np.asarray(leaf)
        weak = getattr(leaf, "weak_type", False)
        return isinstance(leaf, jax.Array), weak, array.dtype, array.dtype.byteorder, array.shape, array.tobytes()
    return type(leaf), repr(leaf)


@given(tree=trees)
def test_every_tree_comes_back_bit_for_bit(tree, round_trip):
    with jax.enable_x64(True):
        back = round_trip(tree)
    assert jtu.tree_structure(back) == jtu.tree_structure(tree)
    assert [bits(leaf) for leaf in jtu.tree_leaves(back)] == [bits(leaf) for leaf in jtu.tree_leaves(tree)]


def as_stored(leaf):
    """Return what a reader that knows nothing of us should see."""
    array = np.asarray(jr.key_data(leaf) if is_key(leaf) else leaf)
    if array.dtype.kind == "c":
        return np.stack([array.real, array.imag], -1)
    if array.dtype.name in {"int2", "int4", "uint2", "uint4"}:
        return array.astype(np.int8 if array.dtype.name.startswith("int") else np.uint8)
    return array


@given(tree=trees)
def test_another_reader_sees_the_same_arrays(tree, saved):
    content = saved(tree)
    length = int.from_bytes(content[:8], "little")
    assert (8 + length) % 64 == 0
    seen = dict(safetensors.deserialize(content))
    arrays = {
        jtu.keystr(path) or ".": leaf
        for path, leaf in jtu.tree_leaves_with_path(tree)
        if isinstance(leaf, (jax.Array, np.ndarray, np.generic))
    }
    assert seen.keys() == arrays.keys()
    for name, leaf in arrays.items():
        expected = as_stored(leaf)
        assert tuple(seen[name]["shape"]) == expected.shape
        native = expected if expected.dtype.isnative else expected.astype(expected.dtype.newbyteorder("="))
        assert bytes(seen[name]["data"]) == native.tobytes()


@given(array=numpy_arrays(NATIVE))
def test_another_reader_gives_numpy_the_same_array(array, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "array.safetensors"
    eqx_serialise.save(path, {"a": array})
    seen = safetensors.numpy.load_file(path)["['a']"]
    assert seen.dtype == array.dtype.newbyteorder("=")
    assert seen.tobytes() == array.astype(seen.dtype).tobytes()


def test_every_dtype_of_ml_dtypes_is_in_this_law():
    names = {name for name in vars(ml_dtypes) if name.startswith(("int", "uint", "float", "bfloat"))}
    assert names - {"int1", "uint1"} <= {*NATIVE, *SMALL}
