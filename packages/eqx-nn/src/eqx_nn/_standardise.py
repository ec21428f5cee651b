"""What the normalising layers have in common: the arithmetic, and the checks."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

import eqx_core


def widen(x: Array) -> Array:
    """Return `x` in the dtype that statistics are computed in, at least float32, behind a barrier.

    Without the barrier XLA on CPUs computes all that led to `x` anew for each of its uses here, so that the time to compile
    a deep residual network grows with the square of its depth.
    """
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(x.dtype, jnp.float32)
    return jax.lax.optimization_barrier(x).astype(dtype)


def standardise(x: Array, eps: float, axes: Sequence[int] | None = None) -> Array:
    """Return `(x - mean) / sqrt(variance + eps)` over some axes, or all, for `x` from `widen`."""
    centred = x - jnp.mean(x, axes, keepdims=True)
    variance = jnp.mean(jnp.real(centred * jnp.conj(centred)), axes, keepdims=True)
    return centred * jax.lax.rsqrt(variance + eps).astype(x.dtype)


def scale_and_shift(x: Array, weight: Array | None, bias: Array | None) -> Array:
    """Return `weight * x + bias` in the dtype of `x`, for a weight and a bias that may be left out."""
    if weight is not None:
        x = weight.astype(x.dtype) * x
    return x if bias is None else x + bias.astype(x.dtype)


def check_shape(layer: str, x: Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `x` has exactly this shape."""
    if jnp.shape(x) != shape:
        raise ValueError(
            f"`{layer}.__call__(x)` must have shape `shape` = `{shape}`; got `{eqx_core.tree_pformat(x)}`. To apply it "
            f"to a batch or a sequence, use `jax.vmap(layer)(x)`."
        )


def shape_of(shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return a shape that may be given as one integer."""
    return tuple(shape) if isinstance(shape, Sequence) else (shape,)


def affine(shape: tuple[int, ...], use_weight: bool, use_bias: bool, dtype: Any) -> tuple[Array | None, Array | None]:
    """Return a weight of ones and a bias of zeros, or None for what is not used."""
    return jnp.ones(shape, dtype) if use_weight else None, jnp.zeros(shape, dtype) if use_bias else None
