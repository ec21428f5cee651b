"""Find nodes that flattening would silently copy."""

from typing import Any

import jax.tree_util as jtu

from ._tree_flatten_one_level import is_leafdef, only_the_root_is_a_node


def tree_check(pytree: Any) -> None:
    """Raise an error if a node of `pytree` occurs twice or contains itself.

    A node in two places becomes two independent nodes once the tree has been flattened and rebuilt, as every
    transformation does: a layer that was meant to be shared is shared no longer. Only nodes with leaves count. One leaf in
    two places is not an error.

    Args:
      pytree: Any PyTree.

    Raises:
      ValueError: A node with at least one leaf is found at two places, or below itself.

    Example:
      >>> layer = {"weight": 1.0}
      >>> tree_check([layer, dict(layer)])
    """
    _check(pytree, (), {}, {})


def _check(
    node: Any, path: jtu.KeyPath, above: dict[int, jtu.KeyPath], done: dict[int, tuple[Any, jtu.KeyPath]]
) -> bool:
    """Check the tree under `node` and return whether it has leaves.

    `above` maps the ids of the nodes on the way to `node` to their paths. `done` does so for the nodes that were left
    again, and keeps them alive: an id is unique only among living objects.
    """
    if id(node) in above:
        raise ValueError(
            f"`tree_check(pytree=...)` must not be given a node that contains itself; got the `{type(node).__name__}` at"
            f" {_name(above[id(node)])} again at {_name(path)}. It cannot be flattened: break the cycle."
        )
    if id(node) in done:
        raise ValueError(
            f"`tree_check(pytree=...)` must not be given one node at two places; got the same `{type(node).__name__}` at"
            f" {_name(done[id(node)][1])} and at {_name(path)}. It would become two separate copies once the tree is flattened"
            " and rebuilt: keep it at one place, and reach it from there."
        )
    children, treedef = jtu.tree_flatten_with_path(node, is_leaf=only_the_root_is_a_node())
    if is_leafdef(treedef):
        return True
    above[id(node)] = path
    has_leaves = [_check(child, path + key, above, done) for key, child in children]
    del above[id(node)]
    if any(has_leaves):
        done[id(node)] = (node, path)
        return True
    return False


def _name(path: jtu.KeyPath) -> str:
    return f"`{jtu.keystr(path)}`" if path else "the root"
