"""Every dtype comes back bit for bit, and other readers see the same numbers."""

import io

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import eqx_serialise

NATIVE = ["bool", "float16", "float32", "float64", "bfloat16"]
NATIVE += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOAT8 = ["e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu"]
FLOAT8 = [f"float8_{name}" for name in FLOAT8]
NARROW = ["int2", "int4", "uint2", "uint4"]
NARROW_FLOAT = ["float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"]
COMPLEX = ["complex64", "complex128"]
ALL = NATIVE + FLOAT8 + NARROW + NARROW_FLOAT + COMPLEX
BITS = {"bool": 1, "int2": 2, "uint2": 2, "int4": 4, "uint4": 4}
BITS |= {name: int(name[5]) for name in NARROW_FLOAT}


def values(name):
    """Return every bit pattern of a byte, or enough random ones: NaNs of all kinds among them."""
    dtype = np.dtype(name)
    if name in BITS:
        patterns = np.arange(2 ** BITS[name], dtype=np.uint8)
    elif dtype.itemsize == 1:
        patterns = np.arange(256, dtype=np.uint8)
    else:
        patterns = np.random.default_rng(0).integers(0, 256, 64 * dtype.itemsize, np.uint8)
    return patterns.view(dtype)


def bits(array):
    return np.asarray(array, order="C").reshape(-1).view(np.uint8).tobytes()


@pytest.mark.parametrize("name", ALL)
def test_a_numpy_array_comes_back_bit_for_bit(name, round_trip):
    array = values(name)
    back = round_trip(array)
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert bits(back) == bits(array)


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("float6")])
def test_a_jax_array_comes_back_bit_for_bit(name, round_trip):
    with jax.enable_x64(True):
        array = jax.device_put(values(name))
        back = round_trip(array)
    assert isinstance(back, jax.Array)
    assert back.dtype == array.dtype == np.dtype(name)
    assert bits(back) == bits(array)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1)])
def test_odd_shapes_come_back(name, shape, round_trip):
    array = np.ones(shape, np.dtype(name))
    back = round_trip(array)
    assert (back.shape, back.dtype) == (array.shape, array.dtype)
    assert bits(back) == bits(array)


@pytest.mark.parametrize("name", ALL)
def test_a_numpy_scalar_comes_back_as_one(name, round_trip):
    scalar = values(name)[1]
    back = round_trip(scalar)
    assert type(back) is type(scalar)
    assert bits(back) == bits(scalar)


@pytest.mark.parametrize("name", [*NATIVE, "complex64", "complex128", "int4", "float8_e4m3fn"])
@pytest.mark.parametrize(
    "lay_out",
    [
        np.asfortranarray,
        lambda a: a[::2],
        lambda a: a[::-1, ::-1],
        lambda a: a.T,
        lambda a: np.broadcast_to(a[:1], a.shape),
        lambda a: a[1:, 1:],
    ],
    ids=["fortran", "strided", "reversed", "transposed", "broadcast", "window"],
)
def test_the_layout_in_memory_does_not_matter(name, lay_out, round_trip):
    array = lay_out(np.resize(values(name), (6, 4)))
    back = round_trip(array)
    assert back.shape == array.shape
    assert bits(back) == bits(np.array(array, order="C"))


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "int32", "uint64", "complex64"])
def test_big_endian_arrays_come_back_as_big_endian(name, round_trip):
    array = values(name).astype(np.dtype(name).newbyteorder(">"))
    back = round_trip(array)
    assert back.dtype == array.dtype
    assert back.dtype.byteorder == ">"
    assert bits(back) == bits(array)
    assert bits(round_trip(array, values(name))) == bits(values(name))


def test_big_endian_arrays_are_written_as_numbers(saved):
    content = saved(np.array([1.0, 2.0], ">f4"))
    np.testing.assert_array_equal(safetensors.numpy.load(content)["."], [1.0, 2.0])


@pytest.mark.parametrize("name", [*NATIVE, *NARROW])
def test_safetensors_reads_the_same_numbers(name, tmp_path):
    array = values(name)
    path = tmp_path / "a.safetensors"
    eqx_serialise.save(path, array)
    seen = safetensors.numpy.load_file(path)["."]
    expected = array.astype(seen.dtype)
    assert seen.shape == array.shape
    assert bits(seen) == bits(expected)
    assert name in NARROW or seen.dtype == array.dtype


@pytest.mark.parametrize("name", [*FLOAT8, *NARROW_FLOAT])
def test_safetensors_reads_the_bits_of_small_floats(name, saved):
    content = saved(values(name))
    ((_, seen),) = safetensors.deserialize(content)
    native = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
    assert seen["dtype"] == native.get(name, "U8")
    assert bytes(seen["data"]) == bits(values(name))


@pytest.mark.parametrize("name", COMPLEX)
def test_safetensors_reads_complex_numbers_as_pairs(name, saved):
    array = np.array([[1 + 2j, 3 - 4j]], name)
    content = saved(array)
    seen = safetensors.numpy.load(content)["."]
    np.testing.assert_array_equal(seen, np.stack([array.real, array.imag], axis=-1))


def test_unused_bits_of_a_byte_are_cleared(round_trip):
    junk = np.array([0xFF], np.uint8)
    for name in ["bool", "uint4", "float4_e2m1fn"]:
        array = junk.view(np.dtype(name))
        assert bits(round_trip(array)) == bits(np.ones(1, bool) if name == "bool" else junk & 0xF)


@pytest.mark.parametrize("name", ["bool", "int4", "uint2", "float4_e2m1fn"])
def test_bytes_that_are_no_value_are_refused(name, saved):
    content = saved(np.zeros(1, np.dtype(name)))
    damaged = io.BytesIO(content[:-1] + b"\x7f")
    with pytest.raises(eqx_serialise.CheckpointError, match=f"bytes that are no {name} for `.`"):
        eqx_serialise.load(damaged, np.zeros(1, np.dtype(name)), verify=False)


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.array(["text"]),
        np.zeros(2, "f4,i4"),
        np.zeros(2, "datetime64[s]"),
        np.zeros(2, np.longdouble),
        np.str_("text"),
        np.zeros((), jax.dtypes.float0),
    ],
    ids=lambda array: str(array.dtype),
)
def test_a_dtype_that_jax_has_not_is_refused(array):
    with pytest.raises(TypeError, match=r"dtypes that JAX has; got dtype .* at `\['a'\]\[0\]`"):
        eqx_serialise.save(io.BytesIO(), {"a": [array]})


def test_one_bit_integers_come_back_where_numpy_has_them(round_trip):
    if not hasattr(ml_dtypes, "int1"):
        pytest.skip("This ml_dtypes has no int1.")
    array = np.array([-1, 0], np.int8).astype(ml_dtypes.int1)
    assert bits(round_trip(array)) == bits(array)
