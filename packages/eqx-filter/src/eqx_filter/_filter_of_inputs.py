"""Read the arguments of the first filtered transformations: `filter_fn`, `filter_tree`, and arguments by number."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax.tree_util as jtu
import numpy as np

from ._axes import short
from ._prefix import parts


def check_filter(name: str, filter_fn: Callable[[Any], Any] | None, filter_tree: Any) -> None:
    """Raise ValueError unless there is exactly one of the two; `name` is the function that takes them."""
    if (filter_fn is None) is (filter_tree is None):
        got = "neither" if filter_fn is None else "both"
        raise ValueError(
            f"`{name}(filter_fn=..., filter_tree=...)` must have exactly one of the two; got {got}. Write "
            f"`{name}(fun, filter_fn=eqx_filter.is_array)` to filter by what the leaves are."
        )


def passed(name: str, filter_fn: Callable[[Any], Any] | None, filter_tree: Any, args: tuple[Any, ...]) -> Any:
    """Return a tree of bools of the structure of `args`: where the filter says True.

    Args:
      name: The function that takes the filter.
      filter_fn: A function from a leaf to a bool, or None if there is `filter_tree`.
      filter_tree: A tuple of trees of bools, one for each of `args`, or the tree itself if there is but one; upper parts
        of trees will do.
      args: Any PyTrees.

    Raises:
      ValueError: The structure of `filter_tree` is another.
      TypeError: It holds something that is no bool.

    Example:
      >>> passed("jitf", None, [True, False], ([1, (2, 3)],))
      ([True, (False, False)],)
    """
    if filter_fn is not None:
        return jtu.tree_map(lambda leaf: bool(filter_fn(leaf)), args)
    option = f"{name}(filter_tree=...)"
    try:
        bools, subtrees, treedef = parts(option, filter_tree, args)
    except ValueError:
        if len(args) != 1:
            raise
        # The two readings never differ where both are possible.
        return (_of_one(option, *parts(option, filter_tree, args[0])),)
    return _of_one(option, bools, subtrees, treedef)


def _of_one(option: str, bools: Sequence[Any], subtrees: Sequence[Any], treedef: Any) -> Any:
    for each, subtree in zip(bools, subtrees, strict=True):
        if not isinstance(each, (bool, np.bool_)) and not (each is None and subtree is None):
            raise TypeError(
                f"`{option}` must consist of bools; got {short(each)}. Write True or False for each leaf, or pass a "
                f"function as `filter_fn`."
            )
    return treedef.unflatten(
        [jtu.tree_map(lambda _, each=each: bool(each), sub) for each, sub in zip(bools, subtrees, strict=True)]
    )


def places(option: str, argnums: int | Sequence[int], count: int) -> tuple[int, ...]:
    """Return which of `count` arguments are meant; a negative number counts from the end.

    Raises:
      ValueError: There is no such argument, or one is meant twice.

    Example:
      >>> places("gradf(argnums=...)", (-1, 0), 3)
      (2, 0)
    """
    numbers = tuple(argnums) if isinstance(argnums, (tuple, list)) else (argnums,)
    numbers = tuple(operator.index(number) for number in numbers)  # pyright: ignore[reportArgumentType]
    found = tuple(number + count if number < 0 else number for number in numbers)
    if not all(0 <= number < count for number in found) or len(set(found)) < len(found):
        raise ValueError(
            f"`{option}` must be numbers of positional arguments, each once; got {argnums!r} in a call with {count}. "
            f"Pass these arguments by position."
        )
    return found
