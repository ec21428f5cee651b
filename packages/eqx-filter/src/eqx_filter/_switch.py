"""Choose one of several functions of anything, by a traced index: `filter_switch`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import eqx_core

from ._axes import short
from ._branches import Branches
from ._carry import Split
from ._remembered import run_remembered
from ._transform import Transformed


class Switched(Transformed):
    """What `filter_switch` compiles: one of several functions."""

    branches: tuple[Callable[..., Any], ...]
    index: Any

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.branches[0]

    def __call__(self, *operands: Any) -> Any:
        __tracebackhide__ = True
        given = Split(operands)
        names = [f"branches[{i}]" for i in range(len(self.branches))]
        branches = Branches("filter_switch(branches=...)", names, self.branches, given)
        return branches.join(jax.lax.switch(self.index, branches.on_arrays, given.arrays))


def filter_switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """Return `branches[index](*operands)`, where the index may be traced.

    It is `jax.lax.switch` for anything: the branches may be Modules, such as a list of layers that is differentiated,
    bound methods or Partials, and the operands and results any PyTrees. What is no array in a result must be the same
    in all of them, as all are traced; a Python number may differ only if another has an array in its place.

    Args:
      index: A scalar integer array, or a Python int. What is out of range counts as the nearest that is not.
      branches: Functions of the operands, at least one. Their results must have the same structure, shapes, dtypes and
        static values.
      *operands: The arguments: any PyTrees.

    Raises:
      TypeError: The results differ in more than the values of arrays, or `index` is no scalar integer.
      ValueError: There are no branches.

    Example:
      >>> layers = [eqx_core.Partial(jnp.multiply, jnp.array(float(i))) for i in range(3)]
      >>> print(filter_switch(2, layers, jnp.array(4.0)))
      8.0
    """
    __tracebackhide__ = True
    branches = tuple(branches)
    if not branches:
        raise ValueError(
            "`filter_switch(branches=...)` must hold at least one function; got none. Pass a list of them."
        )
    traced = jnp.asarray(index) if eqx_core.is_array_like(index) else None
    if traced is None or traced.shape or getattr(traced.dtype, "kind", "V") not in "iu":
        raise TypeError(
            f"`filter_switch(index=...)` must be an int or a scalar array of integers; got {short(index)}. Use "
            f"`jax.vmap` for an array of indices, `.astype(int)` for bools."
        )
    return run_remembered(Switched(branches, traced), *operands)
