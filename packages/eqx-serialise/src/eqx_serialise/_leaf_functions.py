"""Call for each leaf of a PyTree the function that a prefix of the tree has for it."""

from collections.abc import Callable
from typing import Any

import jax.tree_util as jtu


def map_with_functions(
    call: Callable[[tuple[Any, ...], Any, Any], Any],
    functions: Any,
    tree: Any,
    is_leaf: Callable[[Any], bool] | None,
) -> Any:
    """Return `tree` with `call(path, function, leaf)` in the place of each leaf, in the order of the leaves.

    Args:
      functions: A function for all leaves, or a prefix of `tree` of such.

    Raises:
      ValueError: `functions` is no prefix of `tree`.
    """

    def below(path: tuple[Any, ...], function: Any, subtree: Any) -> Any:
        leaves, treedef = jtu.tree_flatten_with_path(subtree, is_leaf=is_leaf)
        return treedef.unflatten([call((*path, *rest), function, leaf) for rest, leaf in leaves])

    return jtu.tree_map_with_path(below, functions, tree)


def checked(function: Any, name: str) -> Callable[..., Any]:
    """Return `function`.

    Raises:
      TypeError: It cannot be called.
    """
    if not callable(function):
        raise TypeError(
            f"`{name}(filter_spec=...)` must be a function of a file and a leaf, or a prefix of the tree of such; got "
            f"`{type(function).__name__}`. Write `lambda file, leaf: ...`."
        )
    return function
