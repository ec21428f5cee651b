"""Differentiate a scalar function of a model: `filter_grad`, `filter_value_and_grad`."""

import functools
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core

from ._jax_compat import hide_from_tracebacks
from ._partition import combine, partition
from ._transform import UNSET, Transformed, refuse_removed
from ._wrt import chosen_leaves

hide_from_tracebacks(__file__)

_REMOVED = ("arg", "filter_spec")


class ValueAndGrad(Transformed):
    """What `filter_value_and_grad` returns."""

    fun: Callable[..., Any]
    has_aux: bool = eqx_core.field(static=True)
    options: tuple[tuple[str, Any], ...] = eqx_core.field(static=True)
    wrt: Any = None

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return differentiate("filter_value_and_grad", self, args, kwargs)


class Grad(Transformed):
    """What `filter_grad` returns."""

    value_and_grad: ValueAndGrad

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.value_and_grad.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        value, grad = differentiate("filter_grad", self.value_and_grad, args, kwargs)
        return (grad, value[1]) if self.value_and_grad.has_aux else grad


def filter_value_and_grad(
    fun: Callable[..., Any] = UNSET, *, has_aux: bool = False, wrt: Any = None, **gradkwargs: Any
) -> Any:
    """Return a function that computes the value of `fun` and its gradient.

    Unless `wrt` says otherwise, the gradient is with respect to each floating-point or complex array, of JAX or NumPy,
    in the first positional argument. Every other leaf, Python floats included, has None for gradient. The other
    arguments, and the arrays that `fun` itself holds, are not differentiated and may be anything.

    Args:
      fun: A function whose value is a scalar array. Left out, the result is a decorator.
      has_aux: Whether `fun` returns a pair of its value and further results, which may be anything.
      wrt: What of the first argument is differentiated. A function that picks nodes out of it, as for `tree_at`:
        `lambda model: model.layers[0]`, or a tuple of nodes. Or a filter specification: a function from a leaf to a
        bool, a bool, or a prefix of the argument with these as leaves. Of a node, it is the floating-point and complex
        arrays and also the Python floats; a leaf that is named itself must be one of these.
      **gradkwargs: Passed on to `jax.value_and_grad`, for example `holomorphic`.

    Returns:
      A function of the same arguments that returns `(value, grad)`, or `((value, aux), grad)`. `grad` has the structure
      of the first argument. As the method of a class it differentiates with respect to `self`.

    Raises:
      ValueError: There is an `argnums`, or an option of the past.
      TypeError: On calling it: the first argument is missing or passed by its name, or `wrt` names a leaf that cannot
        be differentiated.

    Example:
      >>> model = {"weight": jnp.array(3.0), "name": "linear"}
      >>> value, grad = eqx_filter.filter_value_and_grad(lambda model, x: model["weight"] ** 2 * x)(model, 2.0)
      >>> print(value, grad["weight"], grad["name"])
      18.0 12.0 None
      >>> pair = jnp.array(3.0), 4.0
      >>> print(eqx_filter.filter_grad(lambda pair: pair[0] * pair[1], wrt=lambda pair: pair[1])(pair))
      (None, Array(3., dtype=float32, weak_type=True))
    """
    _check_options("filter_value_and_grad", gradkwargs)
    if fun is UNSET:
        return functools.partial(filter_value_and_grad, has_aux=has_aux, wrt=wrt, **gradkwargs)
    return ValueAndGrad(fun, has_aux, tuple(gradkwargs.items()), wrt)


def filter_grad(fun: Callable[..., Any] = UNSET, *, has_aux: bool = False, wrt: Any = None, **gradkwargs: Any) -> Any:
    """Return a function that computes the gradient of `fun`; all else is as with `filter_value_and_grad`.

    Args:
      fun: A function whose value is a scalar array. Left out, the result is a decorator.
      has_aux: Whether `fun` returns a pair of its value and further results, which may be anything.
      wrt: What of the first argument is differentiated: a function that picks nodes, or a filter specification.
      **gradkwargs: Passed on to `jax.value_and_grad`, for example `holomorphic`.

    Returns:
      A function of the same arguments that returns `grad`, or `(grad, aux)`. `grad` has the structure of the first
      argument, with None for whatever is not differentiated, so it suits `eqx_core.apply_updates`.

    Raises:
      ValueError: There is an `argnums`, or an option of the past.
      TypeError: On calling it: the first argument is missing or passed by its name.

    Example:
      >>> grad = eqx_filter.filter_grad(lambda pair, n: pair[0] ** n * pair[1])((jnp.array(3.0), 10), 2)
      >>> print(grad[0], grad[1])
      60.0 None
    """
    _check_options("filter_grad", gradkwargs)
    if fun is UNSET:
        return functools.partial(filter_grad, has_aux=has_aux, wrt=wrt, **gradkwargs)
    return Grad(ValueAndGrad(fun, has_aux, tuple(gradkwargs.items()), wrt))


def differentiate(
    name: str, of: ValueAndGrad, args: tuple[Any, ...], kwargs: dict[str, Any], option: str = "wrt"
) -> tuple[Any, Any]:
    """Return `(value, grad)`, where the value includes the aux; `name` and `option` are what the user has called."""
    __tracebackhide__ = True
    check_first_argument(name, args, kwargs)
    leaves, treedef = jtu.tree_flatten(args[0])
    if of.wrt is not None:
        ints = dict(of.options).get("allow_int", False)
        where = chosen_leaves(f"{name}({option}=...)", of.wrt, args[0], ints=ints)
    else:
        where = [i for i, leaf in enumerate(leaves) if eqx_core.is_inexact_array(leaf)]
        if not where:
            _warn_of_numbers(args[0])
    # What is no array in the aux does not pass through JAX, which would refuse it.
    statics: list[Any] = []

    def value_of(arrays: Sequence[Any]) -> tuple[Any, Any]:
        __tracebackhide__ = True
        out = of.fun(treedef.unflatten(_placed(leaves, where, arrays)), *args[1:], **kwargs)
        if not of.has_aux:
            return out, ()
        value, aux = value_and_aux(name, out)
        traced, static = partition(aux, eqx_core.is_array)
        statics.append(static)
        return value, traced

    differentiated = jax.value_and_grad(value_of, has_aux=True, **dict(of.options))
    (value, aux), grads = differentiated([leaves[i] for i in where])
    if of.has_aux:
        value = value, combine(aux, statics[-1])
    return value, treedef.unflatten(_placed([None] * len(leaves), where, grads))


def _placed(leaves: list[Any], where: Sequence[int], arrays: Sequence[Any]) -> list[Any]:
    leaves = leaves.copy()
    for i, array in zip(where, arrays, strict=True):
        leaves[i] = array
    return leaves


def value_and_aux(name: str, out: Any) -> tuple[Any, Any]:
    """Return what a function with an aux returned, if that is a pair."""
    if isinstance(out, (tuple, list)) and len(out) == 2:
        return out[0], out[1]
    raise TypeError(
        f"`{name}(fun=...)` must return a pair `(value, aux)`, as `has_aux` says; got `{_short(out)}`. Return a "
        f"tuple of two, or leave out `has_aux`."
    )


def _short(tree: Any) -> str:
    return textwrap.shorten(eqx_core.tree_pformat(tree), 80, placeholder=" ...")


def _check_options(name: str, options: dict[str, Any]) -> None:
    if "argnums" in options:
        raise ValueError(
            f"`{name}(argnums=...)` must not be given; got {options['argnums']!r}. It is always the first argument that "
            f"is differentiated: make that a tuple of all that should be."
        )
    refuse_removed(name, options, _REMOVED)
    if options:
        # An unknown option is an error here, not at the first call.
        jax.value_and_grad(len, **options)


def check_first_argument(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise an error if there is no positional argument to differentiate."""
    if args:
        return
    got = f"only keyword arguments ({', '.join(kwargs)})" if kwargs else "no arguments"
    raise TypeError(
        f"Functions wrapped with `{name}` must have their first argument, which is the one that is differentiated, "
        f"passed by position; got {got}. Write `{name}(fun)(x)` instead of `{name}(fun)(x=x)`."
    )


def _warn_of_numbers(tree: Any) -> None:
    """Warn if there is no array to differentiate but there are Python numbers, which are not differentiated."""
    for path, leaf in jtu.tree_flatten_with_path(tree)[0]:
        if isinstance(leaf, (float, complex)):
            warnings.warn(
                f"There is nothing to differentiate: the first argument, `x`, holds no floating-point array, and "
                f"`x{jtu.keystr(path)}` is a Python `{type(leaf).__name__}`, whose gradient is None. If it should be "
                f"trained, make it an array: `jnp.asarray({leaf})`, or name it in `wrt`. `eqx_core.tree_doctor(x)` lists "
                f"all such leaves.",
                stacklevel=4,
            )
            return
