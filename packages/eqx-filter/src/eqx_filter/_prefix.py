"""Find which part of a tree each leaf of a prefix tree stands for."""

import textwrap
from typing import Any

import jax

from ._jax_compat import flatten_with_none


def parts(option: str, prefix: Any, tree: Any) -> tuple[list[Any], list[Any], Any]:
    """Return the leaves of `prefix`, the part of `tree` that each stands for, and what puts such parts together.

    Args:
      option: How the user has given `prefix`: the start of an error.
      prefix: The upper part of a PyTree of the structure of `tree`; None in it is a leaf.
      tree: Any PyTree.

    Raises:
      ValueError: `prefix` is not the upper part of `tree`.

    Example:
      >>> parts("device", (None, {"a": 1}), (("x", "y"), {"a": [2, 3]}))[:2]
      ([None, 1], [('x', 'y'), [2, 3]])
    """
    leaves, treedef = flatten_with_none(prefix)
    try:
        return leaves, treedef.flatten_up_to(tree), treedef
    except ValueError as error:
        raise ValueError(
            f"`{option}` must have the structure of the values that it is for, or of their upper part; got "
            f"{textwrap.shorten(str(prefix), 80, placeholder=' ...')}. {_where(prefix, tree) or error}"
        ) from None


def _where(prefix: Any, tree: Any) -> str | None:
    """Return where they differ, in JAX's words; those of `flatten_up_to` would print whole arrays."""
    try:
        jax.tree.broadcast(prefix, tree, is_leaf=lambda leaf: leaf is None)
    except ValueError as error:
        return str(error)
    return None
