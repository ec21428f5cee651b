"""Split a PyTree by its leaves and put it together again: `filter`, `partition`, `combine`."""

from collections.abc import Callable
from typing import Any

import jax.core
import jax.tree_util as jtu

import eqx_core

from ._are_arrays import are_arrays
from ._jax_compat import flatten_with_none


def filter(
    pytree: Any,
    filter_spec: Any,
    inverse: bool = False,
    replace: Any = None,
    is_leaf: Callable[[Any], Any] | None = None,
) -> Any:
    """Return `pytree` with the leaves that do not pass `filter_spec` replaced.

    Args:
      pytree: Any PyTree. None in it is structure, not a leaf, and stays.
      filter_spec: A function from a leaf to whether it passes, a bool, or a prefix of `pytree` with these as leaves.
      inverse: True to replace the leaves that do pass.
      replace: What to put in their place.
      is_leaf: A function that tells which nodes of `pytree` are to be taken as leaves.

    Returns:
      The same structure as `pytree`; leaves that stay are the same objects.

    Raises:
      ValueError: A leaf of `filter_spec` is neither a bool nor a function, or `filter_spec` is not a prefix of `pytree`.

    Example:
      >>> eqx_filter.filter({"a": np.ones(3), "b": "text"}, eqx_filter.is_array)["b"]
      >>> eqx_filter.filter([1, 2, [3, 4]], [True, False, True], replace=0)
      [1, 0, [3, 4]]
    """
    leaves, treedef = jtu.tree_flatten(pytree, is_leaf)
    passed = _passed("filter", leaves, pytree, filter_spec, is_leaf)
    inverse = bool(inverse)
    return treedef.unflatten(
        [leaf if passes is not inverse else replace for leaf, passes in zip(leaves, passed, strict=True)]
    )


def partition(
    pytree: Any, filter_spec: Any, replace: Any = None, is_leaf: Callable[[Any], Any] | None = None
) -> tuple[Any, Any]:
    """Return `pytree` twice: once with the leaves that pass `filter_spec`, once with the others.

    `combine` puts them together again.

    Args:
      pytree: Any PyTree.
      filter_spec: A function from a leaf to whether it passes, a bool, or a prefix of `pytree` with these as leaves.
      replace: What to put in the place of the leaves that the other half has.
      is_leaf: A function that tells which nodes of `pytree` are to be taken as leaves.

    Returns:
      A pair of PyTrees of the structure of `pytree`. They are `filter(pytree, filter_spec)` and the same with
      `inverse=True`.

    Raises:
      ValueError: As `filter` does.

    Example:
      >>> eqx_filter.partition([1, "a", 2], lambda leaf: isinstance(leaf, int))
      ([1, None, 2], [None, 'a', None])
    """
    leaves, treedef = jtu.tree_flatten(pytree, is_leaf)
    passed = _passed("partition", leaves, pytree, filter_spec, is_leaf)
    pairs = list(zip(leaves, passed, strict=True))
    kept = [leaf if passes else replace for leaf, passes in pairs]
    rest = [replace if passes else leaf for leaf, passes in pairs]
    return treedef.unflatten(kept), treedef.unflatten(rest)


def combine(*pytrees: Any, is_leaf: Callable[[Any], Any] | None = None) -> Any:
    """Return one PyTree with, at each place, the first leaf of `pytrees` that is not None.

    Args:
      pytrees: PyTrees of one structure. Where the first has None, the others may have a whole subtree.
      is_leaf: A function that tells which nodes of the first are to be taken as leaves; None always is.

    Raises:
      TypeError: There is no PyTree to combine.
      ValueError: The structures differ.

    Example:
      >>> eqx_filter.combine([1, None, None], [None, 2, None])
      [1, 2, None]
    """
    if not pytrees:
        raise TypeError("`combine(*pytrees)` must get at least one PyTree; got none. Write `combine(kept, rest)`.")
    first, *others = pytrees
    combined, treedef = flatten_with_none(first, is_leaf)
    for other in others:
        leaves = _flatten_like(treedef, first, other, is_leaf)
        combined = [b if a is None else a for a, b in zip(combined, leaves, strict=True)]
    return treedef.unflatten(combined)


def _flatten_like(treedef: Any, first: Any, other: Any, is_leaf: Callable[[Any], Any] | None) -> list[Any]:
    """Return the subtrees of `other` at the places of the leaves of `first`."""
    try:
        return treedef.flatten_up_to(other)
    except ValueError:
        # This raises as well, and says where.
        jtu.tree_map(lambda *_: None, first, other, is_leaf=lambda x: x is None or (is_leaf is not None and is_leaf(x)))
        raise


def _passed(
    name: str, leaves: list[Any], pytree: Any, filter_spec: Any, is_leaf: Callable[[Any], Any] | None
) -> list[bool]:
    """Return which of the `leaves` of `pytree` pass."""
    if jtu.all_leaves((filter_spec,)):
        return _passed_one(name, leaves, filter_spec, ())
    passed: list[bool] = []

    def add(path: tuple[Any, ...], spec: Any, subtree: Any) -> None:
        passed.extend(_passed_one(name, jtu.tree_leaves(subtree, is_leaf), spec, path))

    jtu.tree_map_with_path(add, filter_spec, pytree)
    return passed


def _passed_one(name: str, leaves: list[Any], spec: Any, path: tuple[Any, ...]) -> list[bool]:
    if isinstance(spec, bool):
        return [spec] * len(leaves)
    if spec is eqx_core.is_array:
        return are_arrays(leaves)
    if callable(spec) and not isinstance(spec, jax.core.Tracer):
        return [bool(passes) for passes in map(spec, leaves)]
    where = f" at `{jtu.keystr(path)}`" if path else ""
    raise ValueError(
        f"`{name}(filter_spec=...)` must consist of bools and functions from a leaf to a bool; got an object of type "
        f"`{type(spec).__qualname__}`{where}. Make its leaves True or False, not arrays or numbers."
    )
