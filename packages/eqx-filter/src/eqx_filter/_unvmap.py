"""Reduce over all that is there, the axes of `jax.vmap` included: `unvmap_all`, `unvmap_any`, `unvmap_max`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._finalise import register_impl_finalisation
from ._jax_compat import ShapedArray, VmapAxis, define_batching, define_lowering, new_primitive


def unvmap_all(x: ArrayLike) -> jax.Array:
    """Return whether all entries of `x` are true, in every step of every `jax.vmap` around the call.

    The result is not batched, so that `lax.cond` of it is a branch and no select. It has no derivative.

    Args:
      x: An array of any shape. Numbers other than 0 are true.

    Returns:
      `bool[]`.

    Example:
      >>> from eqx_filter.internal import unvmap_all
      >>> jax.vmap(unvmap_all, out_axes=None)(jnp.array([True, False]))
      Array(False, dtype=bool)
    """
    return unvmap_all_p.bind(jnp.asarray(x).astype(bool))


def unvmap_any(x: ArrayLike) -> jax.Array:
    """Return whether some entry of `x` is true, in any step of any `jax.vmap` around the call.

    The result is not batched, so that `lax.cond` of it is a branch and no select. It has no derivative.

    Args:
      x: An array of any shape. Numbers other than 0 are true.

    Returns:
      `bool[]`.

    Example:
      >>> from eqx_filter.internal import unvmap_any
      >>> jax.vmap(unvmap_any, out_axes=None)(jnp.array([True, False]))
      Array(True, dtype=bool)
    """
    return unvmap_any_p.bind(jnp.asarray(x).astype(bool))


def unvmap_max(x: ArrayLike) -> jax.Array:
    """Return the largest entry of `x`, over all steps of every `jax.vmap` around the call.

    The result is not batched. It has no derivative: differentiating it is a NotImplementedError.

    Args:
      x: An array of any shape with at least one entry. For the smallest entry, write `-unvmap_max(-x)`.

    Returns:
      A scalar of the dtype of `x`; NaN if there is one.

    Example:
      >>> from eqx_filter.internal import unvmap_max
      >>> jax.vmap(unvmap_max, out_axes=None)(jnp.array([1.0, 3.0]))
      Array(3., dtype=float32)
    """
    return unvmap_max_p.bind(jnp.asarray(x))


def _reduction(name: str, reduce: Callable[[Any], Any]) -> Any:
    """Return a primitive that reduces an array to a scalar, and of a batch of arrays reduces the whole."""

    def batch(axis: VmapAxis, args: Sequence[Any], places: Sequence[int | None]) -> tuple[Any, None]:
        return primitive.bind(*args), None

    primitive = new_primitive(name)
    primitive.def_impl(reduce)
    primitive.def_abstract_eval(lambda aval: ShapedArray((), aval.dtype))
    define_lowering(primitive, reduce)
    define_batching(primitive, batch)
    register_impl_finalisation(primitive)
    return primitive


unvmap_all_p = _reduction("unvmap_all", jnp.all)
unvmap_any_p = _reduction("unvmap_any", jnp.any)
unvmap_max_p = _reduction("unvmap_max", jnp.max)
