"""Replace parts of a PyTree: the one way to edit what is frozen."""

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax.tree_util as jtu

from . import _tree_at_errors as errors
from ._clear_caches import register_cache

_Tree = TypeVar("_Tree")
_Where = Callable[[Any], Any]
_IsLeaf = Callable[[Any], bool] | None


class _Unset:
    def __repr__(self) -> str:
        return "<unset>"


_UNSET: Any = _Unset()


class _Placeholder:
    """Stand in for a leaf: like nothing but itself, so that only the structure of the tree can lead to it."""

    __slots__ = ("spot",)

    def __init__(self, spot: int) -> None:
        self.spot = spot

    def __repr__(self) -> str:
        return "<leaf>"


# To make them anew would take a fifth of the time of a call. They never change, so that calls can share them.
@functools.lru_cache(maxsize=4)
def _placeholders(count: int) -> tuple[_Placeholder, ...]:
    return tuple(map(_Placeholder, range(count)))


register_cache(_placeholders.cache_clear)


class _Twin:
    """Stand in for a leaf that occurs more than once: it has the value of the leaf and an identity of its own."""

    __slots__ = ("_leaf",)

    def __init__(self, leaf: Any) -> None:
        self._leaf = leaf

    def __eq__(self, other: object) -> Any:
        return self._leaf == other

    def __bool__(self) -> bool:
        return bool(self._leaf)

    __hash__ = object.__hash__


def tree_at(
    where: Callable[[_Tree], Any],
    pytree: _Tree,
    replace: Any = _UNSET,
    replace_fn: Callable[[Any], Any] = _UNSET,
    is_leaf: _IsLeaf = None,
    *,
    check: bool = False,
) -> _Tree:
    """Return a copy of `pytree` with the parts that `where` picks out replaced.

    No `__init__`, converter or check of a Module runs. Static fields cannot be reached: they are structure, not parts.

    Args:
      where: A function from `pytree` to one of its nodes or leaves, or to a tuple or list of them. It may use only the
        structure of `pytree`: it is also called on copies whose leaves are placeholders.
      pytree: The PyTree to copy.
      replace: What to put there: one PyTree, or as many as `where` returns.
      replace_fn: Instead of `replace`: a function from each old part to the new one.
      is_leaf: As in `jax.tree.flatten`. Pass `lambda x: x is None` to replace one None among several.
      check: Whether to refuse a replacement of other structure, or an array of other shape or dtype.

    Returns:
      A PyTree of the structure of `pytree`, apart from what was put in. All other leaves are the same objects.

    Raises:
      TypeError: `where` computes with leaves, or returns what is not in `pytree`; `replace` has no length but needs one.
      ValueError: Both or neither of `replace` and `replace_fn` are given; `where` depends on the values of leaves, or does
        not pick out different, separate and unique parts; `replace` has another length; `check` finds a difference.

    Example:
      >>> tree_at(lambda t: t["a"][0], {"a": (1, 2)}, 10)
      {'a': (10, 2)}
    """
    if (replace is _UNSET) == (replace_fn is _UNSET):
        raise errors.one_of_two("neither" if replace is _UNSET else "both")
    picks = _pick(where, pytree, is_leaf)
    new = [replace_fn(old) for old in picks.old] if replace is _UNSET else _match(replace, picks)
    if check:
        for part, old, value in zip(picks.parts, picks.old, new, strict=True):
            errors.check_alike(picks.marked, part, old, value, is_leaf)
    for spot, value in zip(picks.spots, new, strict=True):
        picks.flat[spot] = value
    return picks.treedef.unflatten(picks.flat)


class _Marked:
    """A tree in which placeholders stand for the leaves.

    Its nodes are new objects, so that even two places that hold one object can be told apart by identity.
    """

    def __init__(self, pytree: Any, is_leaf: _IsLeaf) -> None:
        self.leaves, self.treedef = jtu.tree_flatten(pytree, is_leaf=is_leaf)
        self.tree = self.treedef.unflatten(_placeholders(len(self.leaves)))

    def reveal(self, x: Any) -> Any:
        """Return the leaf that `x` stands for, or `x` itself if it stands for none."""
        return self.leaves[x.spot] if type(x) is _Placeholder else x


class _Picks(NamedTuple):
    """What `where` picked out."""

    single: bool  # whether `where` returned a part itself, not a sequence of parts
    old: list[Any]  # the parts in the tree
    parts: list[Any]  # the parts in the marked tree
    marked: Any  # the marked tree
    spots: list[int]  # where the parts are in `flat`
    flat: list[Any]  # the leaves of the tree if the parts count as leaves
    treedef: Any


def _match(replace: Any, picks: _Picks) -> list[Any]:
    """Pair `replace` with the parts."""
    if picks.single:
        return [replace]
    if not hasattr(type(replace), "__len__"):
        raise errors.no_length(replace, len(picks.old))
    if len(replace) != len(picks.old):
        raise errors.wrong_length(len(replace), len(picks.old))
    return list(replace)


def _pick(where: _Where, pytree: Any, is_leaf: _IsLeaf) -> _Picks:
    marked = _Marked(pytree, is_leaf)
    old = errors.explained(where, pytree, marked.reveal)
    picked = errors.explained(where, marked.tree, marked.reveal)
    spots = _spots_if_leaves(picked)
    if spots is not None:
        single = type(picked) is _Placeholder
        parts, flat, treedef = [picked] if single else list(picked), list(marked.leaves), marked.treedef
    else:
        single, parts, flat, treedef = _stop_at(marked.tree, picked)
        shared = _shared(parts, [old] if single else old, flat)
        if shared:
            # Identity cannot tell such nodes apart, like two `()`. So make leaves of them, for these have placeholders.
            return _pick(where, pytree, lambda x: id(x) in shared or (is_leaf is not None and is_leaf(x)))
        spots = _spots_of_nodes(marked.tree, parts, flat)
        flat = [marked.reveal(x) for x in flat]
    _check_dependence(where, old, picked, single, marked, is_leaf)
    return _Picks(single, [old] if single else list(old), parts, marked.tree, spots, flat, treedef)


def _spots_if_leaves(picked: Any) -> list[int] | None:
    """Find the leaves in `picked`; None if it takes a closer look because there may be more in it than some leaves."""
    if type(picked) is _Placeholder:
        return [picked.spot]
    if type(picked) not in (tuple, list) or not all(type(x) is _Placeholder for x in picked):
        return None
    spots = [x.spot for x in picked]
    # A tuple or list that is itself a node of the tree has leaves that follow each other.
    may_be_a_node = not spots or spots == list(range(spots[0], spots[0] + len(spots)))
    return None if may_be_a_node or len(set(spots)) < len(spots) else spots


def _stop_at(marked: Any, picked: Any) -> tuple[bool, list[Any], list[Any], Any]:
    """Decide whether `picked` is one part or a sequence of parts, and flatten the tree down to these."""
    flat, treedef = jtu.tree_flatten(marked, is_leaf=lambda x: x is picked)
    if any(x is picked for x in flat):
        return True, [picked], flat, treedef
    if not isinstance(picked, (tuple, list)):
        raise errors.not_in_tree(picked, None)
    ids = set(map(id, picked))
    flat, treedef = jtu.tree_flatten(marked, is_leaf=lambda x: id(x) in ids)
    return False, list(picked), flat, treedef


def _shared(parts: list[Any], old: Any, flat: list[Any]) -> set[int]:
    """Find the parts that rebuilding did not make anew: childless nodes of which Python or a library has just one."""
    found = set(map(id, flat))
    same = (
        {id(part) for part, before in zip(parts, old, strict=False) if part is before}
        if isinstance(old, (tuple, list))
        else ()
    )
    return {i for i in same if i in found and i != id(None)}


def _spots_of_nodes(marked: Any, parts: list[Any], flat: list[Any]) -> list[int]:
    """Find each of `parts` in `flat`, just once."""
    spots: dict[int, list[int]] = {id(part): [] for part in parts}
    for spot, x in enumerate(flat):
        if id(x) in spots:
            spots[id(x)].append(spot)
    for k, part in enumerate(parts):
        if len(spots[id(part)]) > 1:
            raise errors.not_unique(part)
        if not spots[id(part)]:
            raise errors.below_another(marked, part, parts) or errors.not_in_tree(part, k)
    if len(spots) < len(parts):
        raise errors.twice(marked, parts)
    return [spots[id(part)][0] for part in parts]


def _check_dependence(where: _Where, old: Any, picked: Any, single: bool, marked: _Marked, is_leaf: _IsLeaf) -> None:
    """Raise an error unless `where` picks from the leaves what it picks from their placeholders."""
    marks, structure = jtu.tree_flatten(_as_list(picked, single))
    chosen = [marked.leaves[mark.spot] for mark in marks]
    if not _is_made_of(_as_list(old, single), structure, chosen, is_leaf):
        raise errors.depends_on_values()
    if _occurrences(chosen, marked.leaves) > len(chosen):
        # The tree holds a chosen object at other places too: ask again with these told apart.
        ids = set(map(id, chosen))
        apart = [_Twin(leaf) if id(leaf) in ids else leaf for leaf in marked.leaves]
        again = _as_list(where(marked.treedef.unflatten(apart)), single)
        if not _is_made_of(again, structure, [apart[mark.spot] for mark in marks], is_leaf):
            raise errors.depends_on_values()


def _as_list(result: Any, single: bool) -> list[Any] | None:
    if single:
        return [result]
    return list(result) if isinstance(result, (tuple, list)) else None


def _occurrences(chosen: list[Any], leaves: list[Any]) -> int:
    if len(chosen) == 1:  # by far the usual case, and three times as fast
        return sum(map(operator.is_, leaves, itertools.repeat(chosen[0])))
    return sum(map(set(map(id, chosen)).__contains__, map(id, leaves)))


def _is_made_of(parts: list[Any] | None, structure: Any, leaves: list[Any], is_leaf: _IsLeaf) -> bool:
    def stop(x: Any) -> bool:
        return x is not parts and type(x) is not _Twin and is_leaf is not None and is_leaf(x)

    found, found_structure = jtu.tree_flatten(parts, is_leaf=None if is_leaf is None else stop)
    return structure == found_structure and all(map(operator.is_, found, leaves))
