"""Name the leaves of a PyTree.

The name of a leaf is its path as `jax.tree_util.keystr` prints it, without the dot at its front:
`layers[0].weight`, `['encoder'].scale`. Two paths would have no or a forbidden name, and keep the
dot: a tree that is itself a leaf is `.`, and an attribute `__metadata__` at the top of the tree is
`.__metadata__`, because safetensors keeps that word for itself.
"""

from typing import Any

import jax.tree_util as jtu

from ._check_text import check_text


def _is_stable(entry: Any) -> bool:
    # A `repr` with an address in it is another one in the next process. Text may say what it likes.
    key = getattr(entry, "key", None)
    return isinstance(key, str) or " at 0x" not in str(entry)


def leaf_name(path: tuple[Any, ...]) -> str:
    """Return the name of the leaf at `path`, for example `layers[0].weight`."""
    name = jtu.keystr(path).removeprefix(".")
    return f".{name}" if name in {"", "__metadata__"} else name


def named_leaves(tree: Any, argument: str) -> tuple[dict[str, Any], Any]:
    """Return the leaves of `tree` by name, in tree order, and its structure.

    Args:
      argument: What an error calls the tree, for example `save(tree)`.

    Raises:
      ValueError: Two leaves have one name, or a name cannot be written or found again.
    """
    paths, structure = jtu.tree_flatten_with_path(tree)
    leaves: dict[str, Any] = {}
    for path, leaf in paths:
        name = leaf_name(path)
        if name in leaves:
            raise ValueError(
                f"`{argument}` must have one name per leaf; got `{name}` twice. "
                "Give the children of that node keys that print differently."
            )
        if not all(map(_is_stable, path)):
            raise ValueError(
                f"`{argument}` must have names that the next process finds again; got `{name}`. "
                "Use a string as that key, or give its class a `__repr__`."
            )
        check_text(name, f"Each name in `{argument}`")
        leaves[name] = leaf
    return leaves, structure
