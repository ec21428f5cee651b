"""Tell which leaves a gradient is with respect to: what `wrt=` of `filter_grad` means."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.tree_util as jtu
import numpy as np

import eqx_core

from ._axes import short
from ._prefix import parts

# Whether a leaf is chosen, and whether it was named itself, not along with a node that holds it.
_Choice = tuple[bool, bool]


def chosen_leaves(option: str, wrt: Any, tree: Any, *, ints: bool = False) -> list[int]:
    """Return the indices, among the leaves of `tree`, of those that are to be differentiated.

    Of a node that is chosen, these are the leaves that can be: floating-point and complex arrays and numbers.

    Args:
      option: How the user has given `wrt`: the start of an error.
      wrt: A bool, a function, or a prefix of `tree` with bools and functions from a leaf to a bool as leaves. A function
        that is not inside of a prefix may also pick nodes out of `tree`.
      tree: Any PyTree.
      ints: Whether integers can be differentiated.

    Raises:
      TypeError: A leaf that was named itself cannot be differentiated, or `wrt` is neither.
      ValueError: `wrt` is not a prefix of `tree`, or picks out nothing that can be differentiated.

    Example:
      >>> tree = {"a": np.ones(2), "b": [1.0, "text"]}
      >>> chosen_leaves("wrt", {"a": False, "b": True}, tree), chosen_leaves("wrt", lambda tree: tree["a"], tree)
      ([1], [0])
    """
    if jtu.all_leaves((wrt,)) and callable(wrt):
        choices = _by_function(option, wrt, tree)
    else:
        choices = list(_by_prefix(option, wrt, tree))
    leaves = jtu.tree_leaves(tree)
    able = [_is_able(leaf, ints) for leaf in leaves]
    for i, (chosen, named) in enumerate(choices):
        if chosen and named and not able[i]:
            raise TypeError(
                f"`{option}` must choose leaves that can be differentiated, floating-point or complex; got "
                f"{short(leaves[i])} at `x{_path(tree, i)}`, where `x` is what is differentiated. Leave that one out."
            )
    found = [i for i, (chosen, _) in enumerate(choices) if chosen and able[i]]
    if not found and any(chosen for chosen, _ in choices):
        raise ValueError(
            f"`{option}` must choose something that can be differentiated; got nodes without floating-point or complex "
            f"leaves. `eqx_core.tree_doctor(x)`, where `x` is what is differentiated, shows arrays that are hidden in it."
        )
    return found


def _is_able(leaf: Any, ints: bool) -> bool:
    if ints and (eqx_core.is_array(leaf) or isinstance(leaf, int)):
        return True
    return eqx_core.is_inexact_array(leaf) or isinstance(leaf, (float, complex))


def _path(tree: Any, i: int) -> str:
    return jtu.keystr(jtu.tree_flatten_with_path(tree)[0][i][0])


class _Mark:
    """Stands for a leaf, so that a function can pick it out without looking at its value."""

    def __init__(self, index: int):
        self.index = index


def _by_function(option: str, wrt: Callable[[Any], Any], tree: Any) -> list[_Choice]:
    """Return the choices of a function that may be a selector or a predicate.

    Called with the whole tree, a selector returns nodes of it, which no bool is; a predicate returns a bool or raises.
    Neither can be taken for the other.
    """
    treedef = jtu.tree_structure(tree)
    marked = treedef.unflatten(map(_Mark, range(treedef.num_leaves)))
    try:
        nodes = wrt(marked)
    except Exception as error:
        return _by_predicate(option, wrt, jtu.tree_leaves(tree), error)
    if isinstance(nodes, (bool, np.bool_)):
        return _by_predicate(option, wrt, jtu.tree_leaves(tree), None)
    marks = jtu.tree_leaves(nodes)
    if not marks or not all(isinstance(mark, _Mark) for mark in marks):
        got = "something else" if marks else "nothing"
        raise ValueError(
            f"`{option}` must be a function that picks nodes of the tree, or tells of a leaf by a bool; this one "
            f"returned {got}. Write for example `lambda model: model.layers[0].weight`, or pass a prefix of bools."
        )
    chosen, named = {mark.index for mark in marks}, {mark.index for mark in _separate(nodes, marked)}
    return [(i in chosen, i in named) for i in range(treedef.num_leaves)]


def _separate(nodes: Any, marked: Any) -> list[_Mark]:
    """Return the leaves that were picked out as such, alone or in a tuple or list of the selector's own making."""
    known: set[int] = set()
    jtu.tree_flatten(marked, is_leaf=lambda node: bool(known.add(id(node))))
    if isinstance(nodes, (tuple, list)) and id(nodes) not in known:
        return [node for node in nodes if isinstance(node, _Mark)]
    return [nodes] if isinstance(nodes, _Mark) else []


def _by_predicate(
    option: str, wrt: Callable[[Any], Any], leaves: Sequence[Any], as_selector: Exception | None
) -> list[_Choice]:
    choices = []
    for leaf in leaves:
        try:
            choices.append((_passes(option, wrt, leaf), True))
        except Exception as error:
            if as_selector is None:
                raise
            raise TypeError(
                f"`{option}` must be a function that picks nodes of the tree, or tells of a leaf by a bool; got one "
                f"that raises, called with the tree, {type(as_selector).__name__} ({as_selector}), and with a leaf, "
                f"{short(leaf)}, {type(error).__name__} ({error}). A selector must not look at values."
            ) from error
    return choices


def _by_prefix(option: str, wrt: Any, tree: Any) -> Iterator[_Choice]:
    specs, subtrees, _ = parts(option, wrt, tree)
    for spec, subtree in zip(specs, subtrees, strict=True):
        leaves = jtu.tree_leaves(subtree)
        if isinstance(spec, (bool, np.bool_)):
            yield from [(bool(spec), jtu.all_leaves((subtree,)))] * len(leaves)
        elif callable(spec):
            yield from [(_passes(option, spec, leaf), True) for leaf in leaves]
        elif spec is not None or leaves:
            raise TypeError(
                f"`{option}` must consist of bools and functions from a leaf to a bool; got {short(spec)}. Write True "
                f"for what is to be differentiated, False for the rest."
            )


def _passes(option: str, predicate: Callable[[Any], Any], leaf: Any) -> bool:
    passes = predicate(leaf)
    if not isinstance(passes, (bool, np.bool_)):
        raise TypeError(
            f"`{option}` must be a function that tells of a leaf by a bool, if it is none that picks nodes; got "
            f"{short(passes)} for {short(leaf)}. Write for example `eqx.is_inexact_array`."
        )
    return bool(passes)
