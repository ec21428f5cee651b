"""Pull cotangents back through a function of models: `filter_vjp`."""

from collections.abc import Callable
from typing import Any

import jax

import eqx_core

from ._grad import value_and_aux
from ._jax_compat import hide_from_tracebacks
from ._partition import combine, partition

hide_from_tracebacks(__file__)


def filter_vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Return the value of `fun` and the function that pulls cotangents back through it.

    Args:
      fun: A function, which may return anything.
      *primals: Its arguments. Each floating-point or complex array in them is differentiated.
      has_aux: Whether `fun` returns a pair of its value and further results, which may be anything.

    Returns:
      `(out, vjp_fn)`, or `(out, vjp_fn, aux)`. `vjp_fn` takes the cotangents: the structure of `out` with None for
      whatever is not a floating-point or complex array. It returns a tuple of the structure of `primals`, again with None
      for the others. It is a PyTree, so it can be an argument or result of a jitted function.

    Raises:
      ValueError: From `vjp_fn`: the structure, a shape or a dtype is not that of the value.

    Example:
      >>> out, vjp_fn = eqx_filter.filter_vjp(lambda x, n: (x**n, n), jnp.array(3.0), 2)
      >>> (cotangent, nothing) = vjp_fn((jnp.array(1.0), None))
      >>> print(cotangent, nothing)
      6.0 None
    """
    __tracebackhide__ = True
    moving, fixed = partition(primals, eqx_core.is_inexact_array)
    # What is no array in the output does not pass through JAX, which would refuse it.
    statics: list[Any] = []

    def of_moving(*moving: Any) -> tuple[Any, Any]:
        __tracebackhide__ = True
        out = fun(*combine(moving, fixed))
        out, aux = value_and_aux("filter_vjp", out) if has_aux else (out, None)
        differentiable, rest = partition(out, eqx_core.is_inexact_array)
        traced, static = partition((rest, aux), eqx_core.is_array)
        statics.append(static)
        return differentiable, traced

    differentiable, vjp_fn, traced = jax.vjp(of_moving, *moving, has_aux=True)
    rest, aux = combine(traced, statics[-1])
    out = combine(differentiable, rest)
    return (out, vjp_fn, aux) if has_aux else (out, vjp_fn)
