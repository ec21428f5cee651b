"""Refuse `jax.vmap`: `nonbatchable`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jax.core import Tracer

from .._error_if import error_if
from .._finalise import register_impl_finalisation
from .._jax_compat import VmapAxis, define_batching, define_derivatives, define_lowering, new_primitive

_BUG = "This is probably an internal error in the library you are using."


def nonbatchable(
    x: Any, *, name: str | None = None, msg: str | None = None, allow_constant_across_batch: bool = False
) -> Any:
    """Return `x`; that its arrays differ between the steps of a `jax.vmap` is an error.

    Derivatives pass, and those may be batched.

    Args:
      x: Any PyTree.
      name: What to name in the error; by default "This operation".
      msg: The whole text of the error, instead.
      allow_constant_across_batch: Whether a batch of equal values is let through, as one value that is not batched.
        Then the error is one of `error_if`, raised when the program runs.

    Raises:
      ValueError: An array is batched, when it is traced.

    Example:
      >>> from eqx_filter.internal import nonbatchable
      >>> try:
      ...     jax.vmap(lambda x: nonbatchable(x, name="My loop"))(jnp.ones(2))
      ... except ValueError as error:
      ...     print(error)
      Unexpected batch tracer. My loop cannot be vmap'd. This is probably an internal error in the library you are using.
    """
    subject = name or "This operation"
    if msg is None and allow_constant_across_batch:
        msg = f"Nonconstant batch. {subject} has received a batch of values that were expected to be constant. {_BUG}"
    elif msg is None:
        msg = f"Unexpected batch tracer. {subject} cannot be vmap'd. {_BUG}"

    def guard(leaf: Any) -> Any:
        # Nothing else can be batched.
        if not isinstance(leaf, Tracer):
            return leaf
        return nonbatchable_p.bind(leaf, msg=msg, allow_constant_across_batch=allow_constant_across_batch)

    return jtu.tree_map(guard, x)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    return nonbatchable_p.bind(*primals, **params), tangents[0]


def _transpose(cotangent: Any, x: Any, **params: Any) -> list[Any]:
    return [cotangent]


def _batch(
    axis: VmapAxis, args: Sequence[Any], places: Sequence[int | None], *, msg: str, allow_constant_across_batch: bool
) -> tuple[Any, None]:
    (x,), (place,) = args, places
    if place is not None:
        if not allow_constant_across_batch:
            raise ValueError(msg)
        x = _the_constant(jnp.moveaxis(x, place, 0), msg)
    return nonbatchable_p.bind(x, msg=msg, allow_constant_across_batch=allow_constant_across_batch), None


def _the_constant(x: Any, msg: str) -> Any:
    """Return the first entry of `x`, with a check that the others are the same."""
    data = jr.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    same = data[1:] == data[:1]
    if jnp.issubdtype(data.dtype, jnp.inexact):
        same |= jnp.isnan(data[1:]) & jnp.isnan(data[:1])
    return error_if(x[0], ~same.all(), msg)


nonbatchable_p = new_primitive("nonbatchable")
nonbatchable_p.def_impl(lambda x, **_: x)
nonbatchable_p.def_abstract_eval(lambda x, **_: x)
define_derivatives(nonbatchable_p, _jvp, _transpose)
define_lowering(nonbatchable_p, lambda x, **_: x)
define_batching(nonbatchable_p, _batch)
register_impl_finalisation(nonbatchable_p)
