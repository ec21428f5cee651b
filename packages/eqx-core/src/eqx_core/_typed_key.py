"""Compare static values with their types: the key under which a non-array is remembered."""

import dataclasses
import enum
import math
import types
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._is_array import is_array

# Values of these types equal another value of the same type just if `==` says so.
ATOMS = frozenset(
    {
        int,
        bool,
        str,
        bytes,
        type(None),
        type(Ellipsis),
        type,
        types.FunctionType,
        types.BuiltinFunctionType,
        type(jax.jit(lambda: None)),
        jax.custom_jvp,
        jax.custom_vjp,
        jtu.PyTreeDef,
    }
)


# `jnp.float32`, like an array's dtype, says which dtype: programs write one and compare it with the other.
_DTYPES = (np.dtype, type(jnp.float32))


class Compared:
    """A value that cannot be hashed, as a key: equal to another of the same type that `==` says is equal."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Compared) or type(self.value) is not type(other.value):
            return False
        return self.value is other.value or (not is_array(self.value) and bool(self.value == other.value))

    def __hash__(self) -> int:
        return hash(type(self.value))


def typed_key(value: Any) -> Hashable:
    """Return a hashable key that two values share just if they are equal and of the same type, all the way down.

    So 1, 1.0 and True have three keys, as have 0.0 and -0.0; every NaN has the same one. `jnp.float32` and
    `np.dtype("float32")` have the same one too. Dicts and sets do not count the order. NumPy arrays are compared by dtype, shape and bytes, JAX arrays by identity, dataclasses by `==` and by
    the keys of the fields that it compares.

    Example:
      >>> typed_key((1, [True])) == typed_key((1, [1])), typed_key({"a": 1}) == typed_key({"a": 1})
      (False, True)
    """
    kind = type(value)
    if kind in ATOMS:
        return kind, value
    if kind is float:
        return kind, _float_key(value)
    if kind is complex:
        return kind, _float_key(value.real), _float_key(value.imag)
    if isinstance(value, (tuple, list)):
        return kind, *map(typed_key, value)
    if isinstance(value, dict):
        return kind, frozenset((typed_key(k), typed_key(v)) for k, v in value.items())
    if isinstance(value, (set, frozenset)):
        return kind, frozenset(map(typed_key, value))
    if isinstance(value, (np.ndarray, np.generic)):
        return (
            kind,
            value.dtype,
            value.shape,
            value.tobytes() if value.dtype != object else Compared(value),
        )
    if isinstance(value, (jax.Array, enum.Enum)):
        return kind, Compared(value)
    if isinstance(value, _DTYPES):
        return np.dtype, np.dtype(value)
    if isinstance(value, slice):
        return kind, *map(typed_key, (value.start, value.stop, value.step))
    if not jtu.all_leaves([value]):
        leaves, treedef = jtu.tree_flatten(value)
        return kind, treedef, *map(typed_key, leaves)
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) and _has_equality(kind) else ()
    inner = (typed_key(getattr(value, field.name)) for field in fields if field.compare)
    try:
        hash(value)
    except TypeError:
        return kind, Compared(value), *inner
    return kind, value, *inner


def _has_equality(kind: type) -> bool:
    return kind.__eq__ is not object.__eq__


def _float_key(value: float) -> Hashable:
    if value != value:
        return "nan"
    # Strings, because True would be equal to 1.0.
    return value or ("0" if math.copysign(1.0, value) > 0 else "-0")


_TYPES_OF: dict[int, tuple[Any, Hashable]] = {}


def type_of_static(value: Any) -> Hashable | None:
    """Return what has to be equal, beside `value` itself, for it to be the same static value; None if `==` misleads.

    It is the cheap half of `typed_key`, for the values that static fields hold most: it is asked at each flatten.
    """
    kind = type(value)
    if kind in ATOMS:
        return kind
    if kind is float:
        return kind if value and value == value else None
    if kind is not tuple:
        return np.dtype if isinstance(value, _DTYPES) else kind if _is_atom(kind, value) else None
    known = _TYPES_OF.get(id(value))
    if known is not None and known[0] is value:
        return known[1]
    types_of = tuple(map(type_of_static, value))
    if None in types_of:
        return None
    if len(_TYPES_OF) >= 4096:
        _TYPES_OF.clear()
    _TYPES_OF[id(value)] = value, types_of
    return types_of


def _is_atom(kind: type, value: Any) -> bool:
    if isinstance(value, enum.Enum):
        return True
    # Equal to itself alone, and nothing to look into.
    return not _has_equality(kind) and jtu.all_leaves((value,))
