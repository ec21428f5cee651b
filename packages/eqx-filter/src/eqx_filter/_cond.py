"""Choose between two functions of anything, by a traced condition: `filter_cond`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import eqx_core

from ._axes import short
from ._branches import Branches
from ._carry import Split
from ._remembered import run_remembered
from ._transform import Transformed


class Chosen(Transformed):
    """What `filter_cond` compiles: one function or the other."""

    true_fun: Callable[..., Any]
    false_fun: Callable[..., Any]
    pred: Any

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.true_fun

    def __call__(self, *operands: Any) -> Any:
        __tracebackhide__ = True
        given = Split(operands)
        branches = Branches(_OPTION, ("true_fun", "false_fun"), (self.true_fun, self.false_fun), given)
        return branches.join(jax.lax.cond(self.pred, *branches.on_arrays, given.arrays))


_OPTION = "filter_cond(true_fun=..., false_fun=...)"


def filter_cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """Return `true_fun(*operands)` if `pred` is true, else `false_fun(*operands)`.

    It is `jax.lax.cond` for anything: the functions may be Modules, bound methods or Partials, and the operands and
    results any PyTrees. What is no array in a result must be the same in both, as both are traced; a Python number may
    differ only if the other has an array in its place.

    Args:
      pred: A scalar array or a Python bool. A number counts as true if it is not zero.
      true_fun: A function of the operands.
      false_fun: A function of the operands; its result must have the structure, shapes, dtypes and static values of the
        other's.
      *operands: The arguments: any PyTrees.

    Raises:
      TypeError: The results differ in more than the values of arrays, or `pred` is no scalar.

    Example:
      >>> scale = eqx_core.Partial(lambda factor, x: {"y": factor * x, "unit": "m"}, jnp.array(2.0))
      >>> print(filter_cond(True, scale, lambda x: {"y": x, "unit": "m"}, jnp.array(3.0))["y"])
      6.0
      >>> filter_cond(True, scale, lambda x: {"y": x, "unit": "ft"}, jnp.array(3.0))
      Traceback (most recent call last):
      TypeError: `filter_cond(true_fun=..., false_fun=...)` must all return the same structure, shapes, dtypes and ...
    """
    __tracebackhide__ = True
    traced = jnp.asarray(pred) if eqx_core.is_array_like(pred) else None
    if traced is None or traced.shape or getattr(traced.dtype, "kind", "V") not in "biuf":
        raise TypeError(
            f"`filter_cond(pred=...)` must be a scalar array of bools or numbers, or a Python bool; got {short(pred)}. "
            f"Reduce it by `jnp.any` or `jnp.all`, or use `jnp.where` to choose element by element."
        )
    return run_remembered(Chosen(true_fun, false_fun, traced), *operands)
