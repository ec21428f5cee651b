"""Array <-> the bytes of a safetensors tensor, for every dtype that JAX has.

Only those types of safetensors are used that its readers have known since version 0.4, because a
reader refuses the whole file at the first type it does not know. What they lack is written as the
closest thing: narrow integers by value as 8-bit integers, narrow floats by their bits as `U8`,
complex numbers as pairs of floats along one more axis at the end.
"""

import math

import numpy as np

# safetensors type -> bytes of one number.
ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}

# Narrow dtypes keep one number per byte in memory, and leave the upper bits of that byte unused.
_NARROW_INTS = {
    **dict.fromkeys(("int1", "int2", "int4"), np.int8),
    **dict.fromkeys(("uint1", "uint2", "uint4"), np.uint8),
}
_USED_BITS = {"float4_e2m1fn": 0x0F, "float6_e2m3fn": 0x3F, "float6_e3m2fn": 0x3F}

# Name of a dtype -> safetensors type.
STORED_AS = {
    "bool": "BOOL",
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "complex64": "F32",
    "complex128": "F64",
    **{name: "I8" if dtype is np.int8 else "U8" for name, dtype in _NARROW_INTS.items()},
    **dict.fromkeys(_USED_BITS, "U8"),
    **dict.fromkeys(("float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz"), "U8"),
    **dict.fromkeys(("float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), "U8"),
}

# safetensors type -> name of the dtype that is meant where nothing else is said.
USUAL = {stored: name for name, stored in reversed(STORED_AS.items())}


def stored_shape(dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the tensor that holds an array: `shape`, or `shape + (2,)` if complex."""
    return (*shape, 2) if dtype.startswith("complex") else shape


def leaf_shape(dtype: str, stored: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the array that a tensor holds: the inverse of `stored_shape`."""
    return stored[:-1] if dtype.startswith("complex") else stored


def _canonical(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Return `raw` with the bits cleared that say nothing about the value."""
    if dtype == "bool":
        return (raw != 0).view(np.uint8)
    if dtype in _NARROW_INTS:
        stored = raw.view(_NARROW_INTS[dtype])
        return stored.astype(np.dtype(dtype)).astype(stored.dtype).view(np.uint8)
    return raw & np.uint8(_USED_BITS[dtype]) if dtype in _USED_BITS else raw


def to_bytes(array: np.ndarray) -> np.ndarray:
    """Return the values of `array`, little-endian and in C order, as `u8[bytes]`.

    A view where `array` is laid out like that already.
    """
    dtype = array.dtype.name
    if dtype in _NARROW_INTS:
        array = array.astype(_NARROW_INTS[dtype])
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    # Not `np.ascontiguousarray`: it makes a 0-dimensional array 1-dimensional.
    raw = np.asarray(array, order="C").reshape(-1).view(np.uint8)
    return _canonical(raw, dtype)


def from_bytes(raw: np.ndarray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array of `dtype` and `shape` that `raw`, `u8[bytes]`, holds; a view if it can be.

    Raises:
      ValueError: Bytes that `to_bytes` never writes, such as a bool that is 2.
    """
    canonical = _canonical(raw, dtype)
    if canonical is not raw and not np.array_equal(canonical, raw):
        raise ValueError(f"bytes that are no {dtype}")
    if dtype in _NARROW_INTS:
        return raw.view(_NARROW_INTS[dtype]).astype(np.dtype(dtype)).reshape(shape)
    return raw.view(np.dtype(dtype)).reshape(shape)


def is_possible(stored: list[int], item_size: int) -> bool:
    """Return whether an array can have this shape as a tensor: NumPy minds the size without zeros."""
    # Before they are multiplied: thousands of numbers of thousands of digits would take hours.
    if len(stored) > 65 or any(dimension >= 2**63 for dimension in stored):
        return False
    size = math.prod(max(dimension, 1) for dimension in stored) * item_size
    return size < 2**63
