"""Differentiate a function of a model that returns arrays: `filter_jacfwd`, `filter_jacrev`, `filter_hessian`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core

from ._grad import check_first_argument, value_and_aux
from ._jax_compat import hide_from_tracebacks
from ._partition import combine, partition

hide_from_tracebacks(__file__)


class Jacobian(eqx_core.Module):
    """What `filter_jacfwd` and `filter_jacrev` return.

    Attributes:
      fun: The function to differentiate.
      has_aux: Whether it returns a pair.
      name: What made this: "filter_jacfwd" or "filter_jacrev".
    """

    fun: Callable[..., Any]
    has_aux: bool = eqx_core.field(static=True)
    name: str = eqx_core.field(static=True)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        check_first_argument(self.name, args, kwargs)
        moving, fixed = partition(args[0], eqx_core.is_inexact_array)
        if not jtu.tree_leaves(moving):
            raise ValueError(
                f"The first argument of a function wrapped with `{self.name}` must hold a floating-point array, with "
                f"respect to which to differentiate; got a `{type(args[0]).__name__}` without one. Make Python numbers "
                f"arrays by `jnp.asarray`."
            )
        # What is no array in the aux does not pass through JAX, which would refuse it.
        statics: list[Any] = []

        def of_moving(moving: Any) -> tuple[Any, Any]:
            __tracebackhide__ = True
            out = self.fun(combine(moving, fixed), *args[1:], **kwargs)
            out, aux = value_and_aux(self.name, out) if self.has_aux else (out, None)
            traced, static = partition(aux, eqx_core.is_array)
            statics.append(static)
            return out, traced

        transform = jax.jacfwd if self.name == "filter_jacfwd" else jax.jacrev
        jacobian, traced = transform(of_moving, has_aux=True)(moving)
        return (jacobian, combine(traced, statics[-1])) if self.has_aux else jacobian


def filter_jacfwd(fun: Callable[..., Any], has_aux: bool = False) -> Jacobian:
    """Return a function that computes the Jacobian of `fun` in forward mode: best for few inputs.

    Args:
      fun: A function that returns arrays. It is differentiated with respect to each floating-point or complex array in
        its first positional argument; its other arguments may be anything.
      has_aux: Whether `fun` returns a pair of its value and further results, which may be anything.

    Returns:
      A function of the same arguments that returns the Jacobian, or `(jacobian, aux)`. For each array of the output,
      `f[*out]`, it has the structure of the first argument with `f[*out, *in]` for an array `f[*in]` and None for
      whatever is not differentiated.

    Raises:
      TypeError: On calling it: the first argument is missing or passed by its name.
      ValueError: On calling it: there is nothing to differentiate.

    Example:
      >>> jacobian = eqx_filter.filter_jacfwd(lambda pair: pair[0] ** 2)((jnp.array([1.0, 3.0]), "name"))
      >>> print(jacobian[0].tolist(), jacobian[1])
      [[2.0, 0.0], [0.0, 6.0]] None
    """
    return Jacobian(fun, has_aux, "filter_jacfwd")


def filter_jacrev(fun: Callable[..., Any], has_aux: bool = False) -> Jacobian:
    """Return a function that computes the Jacobian of `fun` in reverse mode: best for few outputs.

    Arguments, result and errors are those of `filter_jacfwd`.

    Args:
      fun: A function that returns floating-point arrays.
      has_aux: Whether `fun` returns a pair of its value and further results, which may be anything.

    Example:
      >>> print(eqx_filter.filter_jacrev(lambda x: (x**2).sum())(jnp.array([1.0, 3.0])))
      [2. 6.]
    """
    return Jacobian(fun, has_aux, "filter_jacrev")


def filter_hessian(fun: Callable[..., Any], has_aux: bool = False) -> Jacobian:
    """Return a function that computes the Hessian of `fun`: `filter_jacfwd` of `filter_jacrev`.

    Args:
      fun: A function that returns floating-point arrays.
      has_aux: Whether `fun` returns a pair of its value and further results, which may be anything.

    Returns:
      A function of the same arguments that returns the Hessian, or `(hessian, aux)`: the structure of the first argument
      twice nested, with `f[*out, *in, *in]`.

    Example:
      >>> print(eqx_filter.filter_hessian(lambda x: (x**3).sum())(jnp.array([1.0, 2.0])).tolist())
      [[6.0, 0.0], [0.0, 12.0]]
    """
    return filter_jacfwd(filter_jacrev(fun, has_aux), has_aux)
