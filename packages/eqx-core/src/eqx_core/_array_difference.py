"""Measure by how much two arrays differ."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np


@dataclasses.dataclass(frozen=True)
class ArrayDifference:
    """By how much two arrays differ, in words and in numbers.

    Attributes:
      message: How many elements differ, by how much at most, and where; and how many of them are NaN.
      absolute: The greatest absolute difference; None if no two numbers differ.
      relative: The greatest difference relative to the first array; likewise.
    """

    message: str
    absolute: float | None
    relative: float | None


def array_difference(a: Any, b: Any, rtol: float, atol: float) -> ArrayDifference | None:
    """Compare two arrays of one shape and dtype, as `tree_equal` does; None if they are equal."""
    differ = _where_different(a, b, rtol, atol)
    if not differ.any():
        return None
    x, y = _on_host(a), _on_host(b)
    parts = [f"{differ.sum()} of {differ.size} elements"]
    absolute = relative = None
    nan_x, nan_y = _is_nan(x), _is_nan(y)
    measured = differ & ~nan_x & ~nan_y
    if measured.any() and jnp.issubdtype(x.dtype, jnp.number):
        distance, ratio = _distances(x[measured], y[measured])
        absolute, relative = float(distance.max()), float(ratio.max())
        at = [int(i) for i in np.argwhere(measured)[distance.argmax()]]
        parts.append(f": at most {absolute:.3g} apart, relative {relative:.3g}, at {at}")
    if nan_x.any() or nan_y.any():
        both, one = (nan_x & nan_y).sum(), (nan_x ^ nan_y).sum()
        parts.append(f"; NaN in both trees at {both}, in one at {one}")
    return ArrayDifference("".join(parts), absolute, relative)


def _where_different(a: Any, b: Any, rtol: float, atol: float) -> np.ndarray:
    if not jnp.issubdtype(a.dtype, jnp.inexact) or (rtol == 0 and atol == 0):
        return np.asarray(_on_host(a) != _on_host(b))
    in_jax = isinstance(a, jax.Array) or isinstance(b, jax.Array)
    isclose = jnp.isclose if in_jax else np.isclose
    return ~np.asarray(isclose(a, b, rtol=rtol, atol=atol))


def _on_host(x: Any) -> np.ndarray:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = np.asarray(jr.key_data(x))
        # One element per key, so that the number of keys is what is counted.
        return data.view([("key", data.dtype, data.shape[-1:])])[..., 0]
    return np.asarray(x)


def _is_nan(x: np.ndarray) -> np.ndarray:
    return np.asarray(x != x)


def _distances(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the absolute and the relative distances of two arrays of numbers that all differ."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if jnp.issubdtype(x.dtype, jnp.integer):
            # The difference of two int64 need not be one. Modulo 2**64 it is right as a uint64.
            wide = np.maximum(x, y).astype(np.uint64) - np.minimum(x, y).astype(np.uint64)
            distance, size = wide.astype(np.float64), np.abs(x.astype(np.float64))
        else:
            kind = np.complex128 if jnp.issubdtype(x.dtype, jnp.complexfloating) else np.float64
            distance, size = np.abs(x.astype(kind) - y.astype(kind)), np.abs(x.astype(kind))
        distance = np.where(np.isnan(distance), np.inf, distance)
        ratio = np.where(np.isinf(distance), np.inf, distance / size)
    return distance, ratio
