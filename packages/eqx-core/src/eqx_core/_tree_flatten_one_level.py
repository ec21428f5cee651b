"""Look one level into a PyTree."""

from collections.abc import Callable
from typing import Any

import jax.tree_util as jtu


def tree_flatten_one_level(pytree: Any) -> tuple[list[Any], Any]:
    """Flatten `pytree` into its immediate children and the treedef that puts them back together.

    None and nodes without children are children like any other. A leaf is its own only child; None has none.

    Args:
      pytree: Any PyTree.

    Returns:
      The children, and a treedef with as many leaves as there are children.

    Raises:
      ValueError: `pytree` is one of its own children.

    Example:
      >>> tree_flatten_one_level([None, (), (1, 2)])
      ([None, (), (1, 2)], PyTreeDef([*, *, *]))
    """
    children, treedef = jtu.tree_flatten(pytree, is_leaf=only_the_root_is_a_node())
    if not is_leafdef(treedef) and any(child is pytree for child in children):
        kind = type(pytree).__name__
        raise ValueError(
            f"`tree_flatten_one_level(pytree=...)` must not be given a node that is its own child; got a `{kind}` that contains"
            f" itself. Flattening it would never end: put a copy inside, or hold the inner one by index."
        )
    return children, treedef


def only_the_root_is_a_node() -> Callable[[Any], bool]:
    """Make an `is_leaf` that lets JAX look into the first node it meets and into no other. Use it once."""
    met: list[None] = []

    def is_leaf(_: Any) -> bool:
        met.append(None)
        return len(met) > 1

    return is_leaf


def is_leafdef(treedef: Any) -> bool:
    """Return True for the treedef of a leaf, False for that of any node, None included."""
    return treedef.num_leaves == 1 and jtu.treedef_is_leaf(treedef)
