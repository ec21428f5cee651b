"""Write into an array where it lies, if a predicate allows it: `maybe_set`."""

from typing import Any

import jax.numpy as jnp

from eqx_filter.internal import (
    create_vprim,
    filter_primitive_bind,
    filter_primitive_def,
    filter_primitive_jvp,
    filter_primitive_transpose,
    materialise_zeros,
    register_impl_finalisation,
)

from ._jax_compat import is_linear
from ._select_if_vmap import select_if_vmap


def maybe_set(pred: Any, array: Any, item: Any, x: Any, *, may_be_false: bool, options: dict[str, Any]) -> Any:
    """Return `array.at[item].set(x)` where `pred` is true, and `array` where it is false.

    The selection is made between what is written and what was there, before it is written: the array is never selected
    from, which would copy it. Within a loop it is therefore changed in place.

    No place may be written to twice: the cotangent of `array` is passed on as it is, not zero where it was written to.

    Args:
      pred: `bool[]`. True, unless it is batched or `may_be_false`.
      array: The array.
      item: Whatever `array.at[...]` takes.
      x: An array of the shape of `array[item]` and the dtype of `array`.
      may_be_false: Whether `pred` can be false without being batched.
      options: Keyword arguments of `array.at[...].set`.
    """
    return filter_primitive_bind(maybe_set_p, pred, array, item, x, may_be_false, options)


@filter_primitive_def
def _impl(pred: Any, array: Any, item: Any, x: Any, may_be_false: bool, options: dict[str, Any]) -> Any:
    before = array.at[item].get(**options)
    x = jnp.where(pred, x, before) if may_be_false else select_if_vmap(pred, x, before)
    return array.at[item].set(x, **options)


@filter_primitive_def
def _abstract_eval(pred: Any, array: Any, item: Any, x: Any, may_be_false: bool, options: dict[str, Any]) -> Any:
    return array


@filter_primitive_jvp
def _jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    pred, array, item, x, may_be_false, options = primals
    _, array_dot, _, x_dot, _, _ = tangents
    out = filter_primitive_bind(maybe_set_p, *primals)
    if array_dot is None and x_dot is None:
        return out, None
    array_dot, x_dot = materialise_zeros(array, array_dot), materialise_zeros(x, x_dot)
    return out, filter_primitive_bind(maybe_set_p, pred, array_dot, item, x_dot, may_be_false, options)


@filter_primitive_transpose
def _transpose(inputs: Any, cotangent: Any) -> Any:
    pred, array, item, x, may_be_false, options = inputs
    if cotangent is None:
        return None, None, None, None, None, None
    # Where an index is out of bounds nothing was written.
    x_bar = cotangent.at[item].get(**{"mode": "fill", "fill_value": 0} | options)
    zeros = jnp.zeros_like(x_bar)
    x_bar = jnp.where(pred, x_bar, zeros) if may_be_false else select_if_vmap(pred, x_bar, zeros)
    # Not set to zero where it was written, see `_initial_contents.py`.
    return None, cotangent if is_linear(array) else None, None, x_bar if is_linear(x) else None, None, None


maybe_set_p = create_vprim("maybe_set", _impl, _abstract_eval, _jvp, _transpose)
register_impl_finalisation(maybe_set_p)
