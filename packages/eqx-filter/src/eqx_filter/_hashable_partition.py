"""Split a PyTree into arrays and a part that can be hashed: `hashable_partition`, `hashable_combine`."""

from collections.abc import Callable
from typing import Any

import jax.tree_util as jtu

Static = tuple[tuple[Any, ...], jtu.PyTreeDef]


def hashable_partition(pytree: Any, fn: Callable[[Any], Any]) -> tuple[tuple[Any, ...], Static]:
    """Return the leaves of `pytree` that pass `fn`, and all the rest of it, which can be hashed if the leaves can.

    Returns:
      A pair `(dynamic, (static, treedef))`. Both tuples have one item per leaf, None where the other has the leaf.

    Example:
      >>> hashable_partition([1, "a"], lambda leaf: isinstance(leaf, int))
      ((1, None), ((None, 'a'), PyTreeDef([*, *])))
    """
    leaves, treedef = jtu.tree_flatten(pytree)
    passed = [bool(fn(leaf)) for leaf in leaves]
    dynamic = tuple(leaf if passes else None for leaf, passes in zip(leaves, passed, strict=True))
    static = tuple(None if passes else leaf for leaf, passes in zip(leaves, passed, strict=True))
    return dynamic, (static, treedef)


def hashable_combine(dynamic: tuple[Any, ...], static: Static) -> Any:
    """Return the PyTree that `hashable_partition` has split.

    Example:
      >>> hashable_combine(*hashable_partition([1, "a"], lambda leaf: isinstance(leaf, int)))
      [1, 'a']
    """
    leaves, treedef = static
    return treedef.unflatten([d if s is None else s for d, s in zip(dynamic, leaves, strict=True)])
