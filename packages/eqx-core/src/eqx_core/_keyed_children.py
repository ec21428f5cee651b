"""Take a PyTree apart by one level, with the keys: what everything that reports by path walks with."""

from typing import Any

import jax.tree_util as jtu

from ._tree_flatten_one_level import only_the_root_is_a_node


def keyed_children(node: Any) -> list[tuple[Any, Any]] | None:
    """Return the `(key, child)` pairs right below `node`; None if it is a leaf.

    A `None`, a node without children and a node that is its own child are children like any other.
    """
    pairs, _ = jtu.tree_flatten_with_path(node, is_leaf=only_the_root_is_a_node())
    if len(pairs) == 1 and pairs[0][0] == ():
        return None
    return [(path[0], child) for path, child in pairs]
