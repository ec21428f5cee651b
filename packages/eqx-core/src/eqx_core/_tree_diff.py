"""Say what differs between two PyTrees, and by how much: `tree_diff`."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import jax.core
import jax.tree_util as jtu

from ._array_difference import array_difference
from ._findings import Finding, Findings, short
from ._is_array import is_array
from ._keyed_children import keyed_children
from ._module import Module
from ._module._field import is_static
from ._typed_key import typed_key

_NUMBERS = (int, float, complex)


@dataclasses.dataclass(frozen=True)
class _Tolerance:
    """When two leaves count as equal: the keywords of `tree_equal`."""

    typematch: bool
    rtol: float
    atol: float


@dataclasses.dataclass(frozen=True)
class Difference(Finding):
    """One difference between two PyTrees.

    Attributes:
      kind: "structure" (a node or leaf is there in one tree only, or of another type), "static" (static values),
        "type" (of leaves), "shape", "dtype" or "value".
      absolute: The greatest absolute difference between numbers that differ, NaN left aside; None for the other kinds.
      relative: The greatest difference relative to the number in the first tree; likewise.
    """

    absolute: float | None = None
    relative: float | None = None


class TreeDiff(Findings):
    """What `tree_diff` returns: a tuple of `Difference`s, empty and so false if the trees are equal."""

    __slots__ = ()
    nothing: ClassVar[str] = "The trees are equal."


def tree_diff(a: Any, b: Any, *, typematch: bool = False, rtol: float = 0.0, atol: float = 0.0) -> TreeDiff:
    """Return what differs between two PyTrees, by key path.

    The result is empty just when `tree_equal` of the same arguments is true. So NaN differs from NaN: the message says
    where that is all.

    Args:
      a: Any PyTree.
      b: The PyTree to compare with.
      typematch: Whether leaves must also have the same type.
      rtol: Relative tolerance for arrays of inexact dtype, at least 0.
      atol: Absolute tolerance for arrays of inexact dtype, at least 0.

    Returns:
      A tuple of `Difference`s, each with `path`, `kind` and `message`, that prints as a table.

    Raises:
      RuntimeError: Inside of `jax.jit` or another transform the values are not known.

    Example:
      >>> tree_diff({"w": jnp.array([1.0, 2.0]), "n": 1}, {"w": jnp.array([1.0, 2.5]), "n": 1})
      ['w']  value  1 of 2 elements: at most 0.5 apart, relative 0.25, at [1]
    """
    tolerance = _Tolerance(typematch, rtol, atol)
    return TreeDiff(_compare(a, b, (), tolerance))


def _compare(a: Any, b: Any, keys: jtu.KeyPath, tolerance: _Tolerance) -> Iterator[Difference]:
    # The usual case at the speed of C; only where the structures differ are the trees walked in Python.
    leaves, treedef = jtu.tree_flatten_with_path(a)
    others, other_treedef = jtu.tree_flatten(b)
    if treedef == other_treedef:
        for (path, x), y in zip(leaves, others, strict=True):
            yield from _compare_leaves(x, y, (*keys, *path), tolerance)
        return
    mine, theirs = keyed_children(a), keyed_children(b)
    if mine is None or theirs is None or type(a) is not type(b):
        before, after = _name(a, mine), _name(b, theirs)
        after = f"{after}, of another class of that name" if before == after else after
        yield _difference(keys, "structure", f"{before} became {after}")
        return
    static = list(_compare_static(a, b, keys))
    yield from static
    found = bool(static)
    mine, theirs = dict(mine), dict(theirs)
    for key in mine | theirs:
        here = (*keys, key)
        if key not in theirs:
            yield _difference(here, "structure", f"{short(mine[key])} is in the first tree only")
        elif key not in mine:
            yield _difference(here, "structure", f"{short(theirs[key])} is in the second tree only")
        else:
            below = list(_compare(mine[key], theirs[key], here, tolerance))
            yield from below
            found = found or jtu.tree_structure(mine[key]) != jtu.tree_structure(theirs[key])
            continue
        found = True
    if not found:
        text = f"{type(a).__name__} has the same children but other static data"
        yield _difference(keys, "static", text)


def _name(node: Any, children: list[tuple[Any, Any]] | None) -> str:
    if children is None or node is None:
        return short(node)
    name = type(node).__name__
    return f"{name} of {len(children)}" if children else f"empty {name}"


def _difference(keys: jtu.KeyPath, kind: str, message: str) -> Difference:
    return Difference(jtu.keystr(keys), kind, message)


def _compare_static(a: Any, b: Any, keys: jtu.KeyPath) -> Iterator[Difference]:
    """Compare the static fields of two instances of one Module class."""
    if not isinstance(a, Module):
        return
    for field in filter(is_static, dataclasses.fields(a)):
        mine, theirs = (getattr(x, field.name, _UNSET) for x in (a, b))
        if mine is not theirs and typed_key(mine) != typed_key(theirs):
            here = (*keys, jtu.GetAttrKey(field.name))
            yield _difference(here, "static", _became(mine, theirs))


class _Unset:
    def __repr__(self) -> str:
        return "(not set)"


_UNSET = _Unset()


def _became(a: Any, b: Any) -> str:
    before, after = short(a), short(b)
    look_alike = isinstance(a, _NUMBERS) and isinstance(b, _NUMBERS) and a == b
    if before == after or look_alike:
        before, after = f"{before} ({type(a).__name__})", f"{after} ({type(b).__name__})"
    return f"{before} became {after}"


def _compare_leaves(a: Any, b: Any, keys: jtu.KeyPath, tolerance: _Tolerance) -> Iterator[Difference]:
    if tolerance.typematch and type(a) is not type(b):
        names = f"{type(a).__name__} became {type(b).__name__}"
        yield _difference(keys, "type", names)
    elif is_array(a) and is_array(b):
        yield from _compare_arrays(a, b, keys, tolerance)
    elif is_array(a) or is_array(b):
        yield _difference(keys, "type", _became(a, b))
    elif not bool(a == b):
        yield from _compare_others(a, b, keys)


def _compare_others(a: Any, b: Any, keys: jtu.KeyPath) -> Iterator[Difference]:
    if isinstance(a, _NUMBERS) and isinstance(b, _NUMBERS):
        absolute = float(abs(a - b))
        relative = absolute / abs(a) if a else math.inf
        yield Difference(jtu.keystr(keys), "value", _became(a, b), absolute, relative)
        return
    kinds: list[Difference] = []
    if isinstance(a, jax.ShapeDtypeStruct) and isinstance(b, jax.ShapeDtypeStruct):
        kinds = list(_compare_kinds(a, b, keys))
    if not kinds:
        kind = "value" if type(a) is type(b) else "type"
        kinds = [_difference(keys, kind, _became(a, b))]
    yield from kinds


def _compare_kinds(a: Any, b: Any, keys: jtu.KeyPath) -> Iterator[Difference]:
    if a.shape != b.shape:
        yield _difference(keys, "shape", f"{a.shape} became {b.shape}")
    if a.dtype != b.dtype:
        yield _difference(keys, "dtype", f"{a.dtype} became {b.dtype}")


def _compare_arrays(a: Any, b: Any, keys: jtu.KeyPath, tolerance: _Tolerance) -> Iterator[Difference]:
    kinds = list(_compare_kinds(a, b, keys))
    if kinds:
        yield from kinds
        return
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        raise RuntimeError(
            f"`tree_diff(a=..., b=...)` must be called where values are known; got a tracer at `{jtu.keystr(keys)}`. "
            "Call it outside of `jax.jit` and the like, or use `tree_equal`."
        )
    found = array_difference(a, b, tolerance.rtol, tolerance.atol)
    if found is not None:
        yield Difference(jtu.keystr(keys), "value", found.message, found.absolute, found.relative)
