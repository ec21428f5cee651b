"""Compute a function of models and, once for many directions, its derivative: `filter_linearize`."""

import textwrap
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from ._axes import short
from ._grad import value_and_aux
from ._jax_compat import flatten_with_none
from ._partition import combine, partition


class Linearized(eqx_core.Module):
    """What `filter_linearize` returns beside the value: a linear function of the tangents."""

    push_forward: Callable[..., Any]
    kinds: eqx_core.internal.Static[Any]

    def __call__(self, *tangents: Any) -> Any:
        """Return the derivative in the direction of `tangents`.

        Args:
          *tangents: The structure of the primals, with None for whatever is not a floating-point or complex array. None
            for one that is stands for zero.
        """
        __tracebackhide__ = True
        kinds, treedef = flatten_with_none(self.kinds.value)
        leaves, treedef_of_tangents = flatten_with_none(tangents)
        if treedef != treedef_of_tangents:
            raise ValueError(
                f"`filter_linearize(fun, *primals)[1](*tangents)` must get tangents of the structure of the primals, with "
                f"None for each leaf that has none; got {short(tangents)} instead of {_kind(self.kinds.value)}. Make "
                f"them by `jax.tree.map` over the primals, for example."
            )
        filled = [_tangent(i, leaves[i], kind, tangents) for i, kind in enumerate(kinds)]
        return self.push_forward(*treedef.unflatten(filled))


def filter_linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Return the value of `fun` and its derivative there, a linear function that can be called for many directions.

    Each call costs about as much as one of `filter_jvp` less the computation of the value, at the price of memory for
    what is kept from it.

    Args:
      fun: A function, which may return anything.
      *primals: Its arguments. Each floating-point or complex array in them is differentiated.
      has_aux: Whether `fun` returns a pair of its value and further results, which may be anything.

    Returns:
      `(out, push_forward)`, or `(out, push_forward, aux)`. `push_forward` takes tangents of the structure of `primals`,
      None for whatever is not a floating-point or complex array and, if you like, for zeros. It returns the structure of
      `out`, again with None for the others. It is a PyTree, so it can be an argument or result of a jitted function.

    Raises:
      ValueError: From `push_forward`: the structure or a shape is not that of the primals.
      TypeError: From `push_forward`: a dtype is not, or there is a tangent for what cannot be differentiated.

    Example:
      >>> out, push_forward = filter_linearize(lambda x, n: (x**n, n), jnp.array(3.0), 2)
      >>> tangent, nothing = push_forward(jnp.array(1.0), None)
      >>> print(out[0], tangent, nothing)
      9.0 6.0 None
    """
    __tracebackhide__ = True
    moving, fixed = partition(primals, eqx_core.is_inexact_array)
    # What is no array in the output does not pass through JAX, which would refuse it.
    statics: list[Any] = []

    def of_moving(*moving: Any) -> tuple[Any, Any]:
        __tracebackhide__ = True
        out = fun(*combine(moving, fixed))
        out, aux = value_and_aux("filter_linearize", out) if has_aux else (out, None)
        differentiable, rest = partition(out, eqx_core.is_inexact_array)
        traced, static = partition((rest, aux), eqx_core.is_array)
        statics.append(static)
        return differentiable, traced

    differentiable, push_forward, traced = jax.linearize(of_moving, *moving, has_aux=True)
    rest, aux = combine(traced, statics[-1])
    out = combine(differentiable, rest)
    kinds = jtu.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), moving)
    linear = Linearized(push_forward, eqx_core.internal.Static(kinds))
    return (out, linear, aux) if has_aux else (out, linear)


def _tangent(i: int, tangent: Any, kind: Any, tangents: Any) -> Any:
    """Return the tangent as an array of this kind, None if there is none, or raise."""
    if tangent is None or getattr(tangent, "dtype", None) == jax.dtypes.float0:
        return None if kind is None else jnp.zeros(kind.shape, kind.dtype)
    path, _ = jtu.tree_flatten_with_path(tangents, is_leaf=lambda leaf: leaf is None)[0][i]
    place = f"`filter_linearize(fun, *primals)[1](*tangents)`: the leaf `tangents{jtu.keystr(path)}`"
    if kind is None:
        raise TypeError(
            f"{place} must be None, as its primal is no floating-point or complex array; got {short(tangent)}. Make the "
            f"primal such an array, or leave the tangent out."
        )
    array = jnp.asarray(tangent) if eqx_core.is_array(tangent) else jnp.asarray(tangent, kind.dtype)
    if array.shape != kind.shape or array.dtype != kind.dtype:
        error = ValueError if array.shape != kind.shape else TypeError
        raise error(
            f"{place} must have the shape and dtype of its primal, which is {_kind(kind)}; got {short(tangent)}. Use "
            f"`jnp.broadcast_to` or `.astype` to convert it."
        )
    return array


def _kind(tree: Any) -> str:
    return textwrap.shorten(eqx_core.tree_pformat(tree, struct_as_array=True), 80, placeholder=" ...")
