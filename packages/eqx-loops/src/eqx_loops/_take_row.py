"""Read the rows of an array in a loop, so that the way back writes their cotangents where they lie: `take_row`."""

from typing import Any

import jax

from eqx_filter.internal import (
    create_vprim,
    filter_primitive_bind,
    filter_primitive_def,
    filter_primitive_jvp,
    filter_primitive_transpose,
    register_impl_finalisation,
)

from ._jax_compat import ShapedArray


def take_row(array: Any, index: Any) -> tuple[Any, Any]:
    """Return an array, and its row `array[index]`.

    The array is to be read again only by way of the one that is returned. Then there is one cotangent of all its rows,
    to which each step adds its own. Were it closed over, each step would make an array of zeros with one row in it.

    Args:
      array: An array of at least one axis.
      index: `int[]`, from 0 to below the length of the first axis.
    """
    return filter_primitive_bind(take_row_p, array, index)


@filter_primitive_def
def _impl(array: Any, index: Any) -> Any:
    return array, jax.lax.dynamic_index_in_dim(array, index, 0, keepdims=False)


@filter_primitive_def
def _abstract_eval(array: Any, index: Any) -> Any:
    return array, ShapedArray(array.shape[1:], array.dtype)


@filter_primitive_jvp
def _jvp(primals: Any, tangents: Any) -> Any:
    array, index = primals
    array_dot, _ = tangents
    out = filter_primitive_bind(take_row_p, array, index)
    return out, (None, None) if array_dot is None else filter_primitive_bind(take_row_p, array_dot, index)


@filter_primitive_transpose(materialise_zeros=True)
def _transpose(inputs: Any, cotangents: Any) -> Any:
    _, index = inputs
    array_bar, row_bar = cotangents
    total = row_bar + jax.lax.dynamic_index_in_dim(array_bar, index, 0, keepdims=False)
    return jax.lax.dynamic_update_index_in_dim(array_bar, total, index, 0), None


take_row_p = create_vprim("take_row", _impl, _abstract_eval, _jvp, _transpose)
register_impl_finalisation(take_row_p)
