"""Use one parameter in two places: `Shared`."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import eqx_core
import eqx_filter

_Tree = TypeVar("_Tree")


class SharedNode(eqx_core.Module):
    """Stand where a shared node goes; it has no leaves, so that there is one copy to train."""


class Shared(eqx_core.Module, Generic[_Tree]):
    """Hold a PyTree in which some nodes are others of its nodes, as one copy.

    Calling it gives the whole PyTree, with the nodes in all their places. Gradients of all places then add up.

    Attributes:
      pytree: With placeholders in the places that `where` picks out.
      where, get: As given.
    """

    pytree: _Tree
    where: Callable[[_Tree], Any]
    get: Callable[[_Tree], Any]

    def __init__(self, pytree: _Tree, where: Callable[[_Tree], Any], get: Callable[[_Tree], Any]):
        """Leave out the nodes that `where` picks out: they will be those that `get` picks out.

        Args:
          pytree: Any PyTree, such as a tuple of layers.
          where: A function from it to the node to leave out, or to a tuple or list of nodes.
          get: A function from it to the node, or the nodes, to put there.

        Raises:
          ValueError: Nodes that are to be shared differ in structure, shape or dtype.

        Example:
          A language model whose last layer is its embedding:

          >>> embedding = eqx_nn.Embedding(10, 4, key=jr.key(0))
          >>> linear = eqx_nn.Linear(4, 10, use_bias=False, key=jr.key(0))
          >>> shared = eqx_nn.Shared((embedding, linear), lambda pair: pair[1].weight, lambda pair: pair[0].weight)
          >>> embedding, linear = shared()
          >>> linear.weight is embedding.weight
          True
        """
        structs = [eqx_filter.filter_eval_shape(lambda pick=pick: _nodes(pick(pytree))) for pick in (where, get)]
        if not eqx_core.tree_equal(*structs):
            there, here = (eqx_core.tree_pformat(struct, struct_as_array=True) for struct in structs)
            raise ValueError(
                f"Every node being shared together must have the same structure, shapes and dtypes: "
                f"`Shared(where=...)` must pick out nodes like those of `get`, `{here}`; got `{there}`. Transpose or "
                f"reshape where the node is used."
            )
        self.pytree = eqx_core.tree_at(where, pytree, replace_fn=lambda _: SharedNode())
        self.where = where
        self.get = get

    def __call__(self) -> _Tree:
        """Return the PyTree with every node in its place."""
        return eqx_core.tree_at(self.where, self.pytree, self.get(self.pytree), is_leaf=_is_placeholder)


def _nodes(picked: Any) -> Any:
    """Return what was picked out, a list like a tuple."""
    return tuple(picked) if isinstance(picked, list) else picked


def _is_placeholder(node: Any) -> bool:
    return isinstance(node, SharedNode)
