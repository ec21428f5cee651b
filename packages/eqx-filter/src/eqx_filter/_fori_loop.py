"""Repeat a function for a range of indices, with a carry of anything: `filter_fori_loop`."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.core

import eqx_core

from ._axes import short
from ._carry import Split, carried
from ._remembered import run_remembered
from ._transform import Transformed


class Looped(Transformed):
    """What `filter_fori_loop` compiles: a function, repeated up to a bound."""

    body_fun: Callable[..., Any]
    upper: Any
    unroll: int | bool | None = eqx_core.field(static=True)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.body_fun

    def __call__(self, lower: Any, init_val: Any) -> Any:
        __tracebackhide__ = True
        carry = Split(init_val)

        def body(i: Any, arrays: list[Any]) -> list[Any]:
            __tracebackhide__ = True
            given = carry.join(arrays)
            return carried("filter_fori_loop(body_fun=...)", carry, given, self.body_fun(i, given), "val")

        return carry.join(jax.lax.fori_loop(lower, self.upper, body, carry.arrays, unroll=self.unroll))


def filter_fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool | None = None,
) -> Any:
    """Return what is left of `init_val` after `val = body_fun(i, val)` for each `i` from `lower` to below `upper`.

    It is `jax.lax.fori_loop` for anything: `body_fun` may be a Module, a bound method or a Partial, and of `init_val`
    only the arrays take part. What is no array is the same in every step, and a Python number is no array: to let it
    change, make it one by `jnp.asarray`.

    Args:
      lower: The first index: a Python int, or a scalar integer array.
      upper: The index to stop before. Reverse-mode differentiation needs both to be known when the loop is traced.
      body_fun: A function from the index, a scalar array, and a value to the next value. That must have the structure,
        shapes, dtypes and static values of the one before.
      init_val: The first value: any PyTree.
      unroll: How many steps to write out for each turn of the compiled loop, or True for all of them. Only if both
        bounds are known.

    Raises:
      TypeError: `body_fun` returns a value that differs in more than the values of arrays, or a bound is no integer.

    Example:
      >>> model = {"weight": jnp.array(1.0), "activation": jnp.tanh}
      >>> double = lambda i, model: model | {"weight": 2 * model["weight"]}
      >>> print(filter_fori_loop(0, 5, double, model)["weight"])
      32.0
    """
    __tracebackhide__ = True
    if not any(isinstance(bound, jax.core.Tracer) for bound in (lower, upper)):
        lower, upper = _index("lower", lower), _index("upper", upper)
    return run_remembered(Looped(body_fun, upper, unroll), lower, init_val)


def _index(name: str, bound: Any) -> int:
    try:
        return operator.index(bound)
    except TypeError:
        raise TypeError(
            f"`filter_fori_loop({name}=...)` must be an integer, or a scalar array of integers; got {short(bound)}. "
            f"Convert it by `int`."
        ) from None
