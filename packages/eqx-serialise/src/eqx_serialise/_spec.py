"""What a leaf is, apart from its value: what must be equal in the file and in `like`."""

import functools
from typing import Any, NamedTuple

import jax

import eqx_core

from ._python_values import SCALARS

_SHORT = (("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "i"), ("complex", "c"))


class ArraySpec(NamedTuple):
    """The dtype, for example `float32` or `key<fry>`, and the shape of an array."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        dtype = self.dtype
        for long, short in _SHORT:
            if dtype.startswith(long):
                dtype = short + dtype.removeprefix(long)
                break
        return f"{dtype}[{','.join(map(str, self.shape))}]"


class ScalarSpec(NamedTuple):
    """The type of a Python value, for example `float`."""

    type: str

    def __str__(self) -> str:
        return f"Python {self.type}"


def spec_of(leaf: Any) -> ArraySpec | ScalarSpec | None:
    """Return what `leaf` is, or None if it is of a kind that a file does not hold."""
    if eqx_core.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct):
        return ArraySpec(_name(leaf.dtype), tuple(leaf.shape))
    # Not `isinstance`: a member of an enumeration is more than the integer in it.
    return ScalarSpec(type(leaf).__name__) if type(leaf) in SCALARS else None


@functools.lru_cache(maxsize=64)
def _name(dtype: Any) -> str:
    # NumPy takes microseconds to name one, and a model has thousands of leaves of few dtypes.
    return dtype.name
