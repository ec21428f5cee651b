"""Differentiate single leaves, as the first release of Equinox did: `gradf`, `value_and_grad_f`.

The new form is `filter_grad(fun, wrt=...)`.
"""

from collections.abc import Callable
from typing import Any

import eqx_core

from ._filter_of_inputs import check_filter, passed, places
from ._grad import ValueAndGrad, differentiate
from ._jax_compat import hide_from_tracebacks
from ._transform import Transformed

hide_from_tracebacks(__file__)


class ValueAndGradF(Transformed):
    """What `value_and_grad_f` returns."""

    fun: Callable[..., Any]
    filter_fn: Callable[[Any], Any] | None
    filter_tree: Any
    argnums: int | tuple[int, ...] = eqx_core.field(static=True)
    has_aux: bool = eqx_core.field(static=True)
    options: tuple[tuple[str, Any], ...] = eqx_core.field(static=True)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return _differentiate_places("value_and_grad_f", self, args, kwargs)


class GradF(Transformed):
    """What `gradf` returns."""

    value_and_grad: ValueAndGradF

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.value_and_grad.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        value, grad = _differentiate_places("gradf", self.value_and_grad, args, kwargs)
        return (grad, value[1]) if self.value_and_grad.has_aux else grad


def value_and_grad_f(
    fun: Callable[..., Any],
    *,
    filter_fn: Callable[[Any], Any] | None = None,
    filter_tree: Any = None,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    **gradkwargs: Any,
) -> ValueAndGradF:
    """Return a function that computes the value of `fun` and its gradient with respect to leaves of the arguments.

    It is the form that the first release of Equinox had. A leaf is differentiated where `argnums` and the filter agree.

    Args:
      fun: A function whose value is a scalar array.
      filter_fn: A function from a leaf to a bool, called with every leaf of the arguments that `argnums` says.
      filter_tree: Instead of that, a tree of bools of the structure of the argument, or a tuple of trees, one for each.
      argnums: The positional arguments that are differentiated: a number, or a tuple of numbers.
      has_aux: Whether `fun` returns a pair of its value and further results, which may be anything.
      **gradkwargs: Passed on to `jax.value_and_grad`, for example `holomorphic`.

    Returns:
      A function of the same arguments that returns `(value, grad)`, or `((value, aux), grad)`. `grad` has the structure
      of the argument, or is a tuple of such if `argnums` is; leaves that are not differentiated have the gradient None.

    Raises:
      ValueError: There is not exactly one of `filter_fn` and `filter_tree`; or on calling it, `filter_tree` has another
        structure, or there is no such argument.
      TypeError: On calling it, a leaf is chosen that cannot be differentiated.

    Example:
      >>> f = eqx_filter.value_and_grad_f(lambda x, y: x["a"] * x["b"] * y, filter_tree={"a": True, "b": False})
      >>> value, grad = f({"a": jnp.array(2.0), "b": jnp.array(3.0)}, 4.0)
      >>> print(value, grad["a"], grad["b"])
      24.0 12.0 None
    """
    return _value_and_grad("value_and_grad_f", fun, filter_fn, filter_tree, argnums, has_aux, gradkwargs)


def gradf(
    fun: Callable[..., Any],
    *,
    filter_fn: Callable[[Any], Any] | None = None,
    filter_tree: Any = None,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    **gradkwargs: Any,
) -> GradF:
    """Return a function that computes the gradient of `fun`; all else is as with `value_and_grad_f`.

    Args:
      fun: A function whose value is a scalar array.
      filter_fn: A function from a leaf to a bool, called with every leaf of the arguments that `argnums` says.
      filter_tree: Instead of that, a tree of bools of the structure of the argument, or a tuple of trees, one for each.
      argnums: The positional arguments that are differentiated: a number, or a tuple of numbers.
      has_aux: Whether `fun` returns a pair of its value and further results, which may be anything.
      **gradkwargs: Passed on to `jax.value_and_grad`, for example `holomorphic`.

    Returns:
      A function of the same arguments that returns `grad`, or `(grad, aux)`.

    Raises:
      ValueError: As `value_and_grad_f` does.
      TypeError: Likewise.

    Example:
      >>> grad = eqx_filter.gradf(lambda x, y: x[0] * x[1] * y, filter_fn=lambda leaf: isinstance(leaf, float))
      >>> print(grad([jnp.array(2.0), 3.0], jnp.array(4.0)))
      [None, Array(8., dtype=float32, weak_type=True)]
    """
    return GradF(_value_and_grad("gradf", fun, filter_fn, filter_tree, argnums, has_aux, gradkwargs))


def _value_and_grad(
    name: str, fun: Any, filter_fn: Any, filter_tree: Any, argnums: Any, has_aux: bool, options: dict[str, Any]
) -> ValueAndGradF:
    check_filter(name, filter_fn, filter_tree)
    argnums = tuple(argnums) if isinstance(argnums, (tuple, list)) else argnums
    return ValueAndGradF(fun, filter_fn, filter_tree, argnums, has_aux, tuple(options.items()))


def _differentiate_places(name: str, of: ValueAndGradF, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return `(value, grad)`, where the value includes the aux."""
    __tracebackhide__ = True
    where = places(f"{name}(argnums=...)", of.argnums, len(args))
    chosen = tuple(args[i] for i in where)
    wrt = passed(name, of.filter_fn, of.filter_tree, chosen)

    def fun(chosen: tuple[Any, ...]) -> Any:
        __tracebackhide__ = True
        replaced = dict(zip(where, chosen, strict=True))
        return of.fun(*[replaced.get(i, arg) for i, arg in enumerate(args)], **kwargs)

    option = "filter_tree" if of.filter_fn is None else "filter_fn"
    value, grads = differentiate(name, ValueAndGrad(fun, of.has_aux, of.options, wrt), (chosen,), {}, option)
    return value, grads if isinstance(of.argnums, tuple) else grads[0]
