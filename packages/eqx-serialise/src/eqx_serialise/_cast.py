"""Convert an array on request to the dtype that `like` asks for, and say so if that would change more than digits."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._spec import ArraySpec

Cast = bool | Callable[[str, np.dtype, np.dtype], bool]

_KINDS = (jnp.integer, jnp.floating, jnp.complexfloating)


def is_cast(name: str, found: Any, wanted: Any, cast: Cast | None) -> bool:
    """Return whether the leaf is to be converted: only its dtype differs, and `cast` says so.

    Raises:
      TypeError: `cast` is neither a bool nor a function.
    """
    if cast is not None and not isinstance(cast, bool) and not callable(cast):
        raise TypeError(
            "`load(cast=...)` must be True, or a function of a path and two dtypes; got "
            f"`{type(cast).__name__}`. The dtype to cast to is that of `like`."
        )
    if not cast or not isinstance(found, ArraySpec) or not isinstance(wanted, ArraySpec):
        return False
    if found == wanted or found.shape != wanted.shape or "key<" in found.dtype + wanted.dtype:
        return False
    before, after = np.dtype(found.dtype), np.dtype(wanted.dtype)
    return _is_one_kind(before, after) if cast is True else bool(cast(name, before, after))


def _is_one_kind(before: np.dtype, after: np.dtype) -> bool:
    return any(jnp.issubdtype(before, kind) and jnp.issubdtype(after, kind) for kind in _KINDS)


def converted(array: Any, dtype: Any) -> np.ndarray:
    """Return `array` in another dtype: floats are rounded to the nearest, and the rest stays what it was.

    Raises:
      ValueError: A number does not fit: a float becomes infinite, or anything else is not the same.
    """
    array = np.asarray(array)
    # NumPy warns of what is refused below.
    with np.errstate(all="ignore"):
        result = _astype(array, np.dtype(dtype))
        fits = _is_rounded(array, result) if _is_rounding(array, result) else _is_same(array, result)
    if not fits:
        raise ValueError(f"numbers that do not fit into {result.dtype.name}")
    return result


def _astype(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if array.dtype.kind == "c" and dtype.kind != "c":
        array = np.real(array)
    return array.astype(dtype)


def _is_rounding(before: np.ndarray, after: np.ndarray) -> bool:
    inexact = all(jnp.issubdtype(array.dtype, jnp.inexact) for array in (before, after))
    return inexact and (after.dtype.kind == "c" or before.dtype.kind != "c")


def _is_rounded(before: np.ndarray, after: np.ndarray) -> bool:
    before, wide = _wide(before), _wide(after)
    if after.dtype.kind != "c":
        # The smallest floats have no infinity: what is too large becomes their largest number.
        info = jnp.finfo(after.dtype)
        limit = float(info.max) * (1 + float(info.eps) / 2)
        if np.any(np.isfinite(before) & (np.abs(before) > limit)):
            return False
    same = (np.array_equal(test(before), test(wide)) for test in (np.isnan, np.isinf))
    return all(same)


def _is_same(before: np.ndarray, after: np.ndarray) -> bool:
    # There and back, because NumPy compares large integers with floats by rounding; and as numbers,
    # because a sign that is lost on the way comes back with the bits.
    return np.array_equal(_astype(after, before.dtype), before) and np.array_equal(_wide(before), _wide(after))


def _wide(array: np.ndarray) -> np.ndarray:
    """Return `array` in a dtype that NumPy compares."""
    if array.dtype.kind in "biufc":
        return array
    return array.astype(np.float64 if jnp.issubdtype(array.dtype, jnp.floating) else np.int64)
