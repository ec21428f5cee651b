"""Carry any value through a transformation as structure: `Static`."""

from typing import Any, Generic, TypeVar

import jax.tree_util as jtu

from ._field import field
from ._module import Module

_Value = TypeVar("_Value")


class Static(Module, Generic[_Value]):
    """Hold a value without leaves: all of it is part of the PyTree's structure.

    It is stored flattened, so that values whose own `==` is of no use are compared leaf by leaf.

    Example:
      >>> import jax
      >>> jax.jit(lambda: Static("text"))().value
      'text'
    """

    leaves: tuple[Any, ...] = field(static=True)
    treedef: Any = field(static=True)

    def __init__(self, value: _Value):
        leaves, self.treedef = jtu.tree_flatten(value)
        self.leaves = tuple(leaves)

    @property
    def value(self) -> _Value:
        return jtu.tree_unflatten(self.treedef, self.leaves)
