"""Select between two arrays only where there is something to select: `select_if_vmap`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from eqx_filter.internal import register_impl_finalisation

from ._jax_compat import (
    define_batching,
    define_derivatives,
    define_lowering,
    is_linear,
    is_zero,
    materialise,
    new_primitive,
)


def select_if_vmap(pred: Any, x: Any, y: Any) -> Any:
    """Return `x`, or, once `jax.vmap` has made `pred` a batch of predicates, `jnp.where(pred, x, y)`.

    A step of a loop runs only while the predicate of some element of the batch is true. Without a batch that is the only
    one there is, so nothing needs to be selected, and no selection is in the program.

    Args:
      pred: `bool[]`. True, unless it is batched.
      x: An array.
      y: An array of the same shape and dtype.
    """
    return x if x is y else select_if_vmap_p.bind(pred, x, y)


def _impl(pred: Any, x: Any, y: Any) -> Any:
    return x


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    pred, x, y = primals
    _, x_dot, y_dot = tangents
    out = select_if_vmap_p.bind(pred, x, y)
    if is_zero(x_dot) and is_zero(y_dot):
        return out, x_dot
    return out, select_if_vmap_p.bind(pred, materialise(x_dot), materialise(y_dot))


def _transpose(cotangent: Any, pred: Any, x: Any, y: Any) -> list[Any]:
    if is_zero(cotangent):
        return [None, None, None]
    zeros = jnp.zeros_like(cotangent)
    return [
        None,
        select_if_vmap_p.bind(pred, cotangent, zeros) if is_linear(x) else None,
        select_if_vmap_p.bind(pred, zeros, cotangent) if is_linear(y) else None,
    ]


def _batch(operands: Sequence[Any], axes: Sequence[int | None]) -> tuple[Any, int]:
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    pred, *branches = operands
    x, y = (_with_leading_axis(branch, axis, size) for branch, axis in zip(branches, axes[1:], strict=True))
    if axes[0] is None:
        return select_if_vmap_p.bind(pred, x, y), 0
    return jnp.where(jnp.expand_dims(pred, range(1, x.ndim)), x, y), 0


def _with_leading_axis(x: Any, axis: int | None, size: int) -> jax.Array:
    # A number that JAX knows arrives as a Python number.
    return jnp.broadcast_to(x, (size, *jnp.shape(x))) if axis is None else jnp.moveaxis(x, axis, 0)


select_if_vmap_p = new_primitive("select_if_vmap")
select_if_vmap_p.def_impl(_impl)
select_if_vmap_p.def_abstract_eval(_impl)
define_derivatives(select_if_vmap_p, _jvp, _transpose)
define_batching(select_if_vmap_p, _batch)
define_lowering(select_if_vmap_p, _impl)
register_impl_finalisation(select_if_vmap_p)
