"""Say of each leaf which of its axes is meant, given a prefix tree of specifications."""

import functools
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core

from ._if_array import if_array

AxisSpec = Any
"""A PyTree of None, ints, and functions from a leaf to None or an int."""


class Axes:
    """A tree taken apart into leaves, each with its axis.

    Attributes:
      leaves: The leaves, in order.
      axes: For each leaf None or an int.
    """

    __slots__ = ("_outer", "_parts", "axes", "leaves")

    def __init__(self, option: str, spec: AxisSpec, tree: Any):
        """Take `tree` apart.

        Args:
          option: How the user has given `spec`: the start of an error.
          spec: A prefix tree of `tree`.

        Raises:
          ValueError: `spec` is no prefix, or holds something else than None, ints and functions that return these.
        """
        if _is_none(spec) or type(spec) in (int, if_array):
            self._outer = None
            self.leaves, part = jtu.tree_flatten(tree)
            self._parts = [part]
            self.axes = _axes_of(option, spec, self.leaves)
            return
        specs, self._outer = jtu.tree_flatten(spec, is_leaf=_is_none)
        self.leaves, self.axes, self._parts = [], [], []
        for each, subtree in zip(specs, _subtrees(option, spec, self._outer, tree), strict=True):
            leaves, part = jtu.tree_flatten(subtree)
            self._parts.append(part)
            self.leaves += leaves
            self.axes += _axes_of(option, each, leaves)

    @property
    def structure(self) -> tuple[Any, ...]:
        """What is equal for two trees that were taken apart in the same way."""
        return self._outer, *self._parts

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Return a tree of the same structure with these leaves."""
        if self._outer is None:
            return self._parts[0].unflatten(leaves)
        subtrees, start = [], 0
        for part in self._parts:
            subtrees.append(part.unflatten(leaves[start : start + part.num_leaves]))
            start += part.num_leaves
        return self._outer.unflatten(subtrees)

    def replace(self, where: Sequence[int], leaves: Sequence[Any]) -> Any:
        """Return the tree with the leaves of these numbers replaced."""
        new = self.leaves.copy()
        for i, leaf in zip(where, leaves, strict=True):
            new[i] = leaf
        return self.unflatten(new)

    def settle(self, option: str) -> list[int]:
        """Make an array of each leaf that has an axis; return the numbers of all arrays.

        Args:
          option: How the user has given the specification: the start of an error.

        Raises:
          ValueError: What has an axis is nothing that JAX could make an array of.
        """
        where = []
        for i, (leaf, axis) in enumerate(zip(self.leaves, self.axes, strict=True)):
            if not eqx_core.is_array(leaf):
                if axis is None:
                    continue
                if not eqx_core.is_array_like(leaf):
                    raise ValueError(
                        f"`{option}` must be None for what is no array; got {axis} for the result's "
                        f"{self.describe(i)}. Write `eqx_filter.if_array({axis})` to return such values as they are."
                    )
                self.leaves[i] = jnp.asarray(leaf)
            where.append(i)
        return where

    def describe(self, i: int) -> str:
        """Return where the leaf of number `i` is, and what it is."""
        return f"{self.path(i)}, {short(self.leaves[i])}"

    def path(self, i: int) -> str:
        """Return where the leaf of number `i` is."""
        numbered = jtu.tree_flatten_with_path(self.unflatten(range(len(self.leaves))))[0]
        (path,) = (path for path, number in numbered if number == i)
        return f"`{jtu.keystr(path) or 'itself'}`"


def short(value: Any) -> str:
    """Return a value as one short line, arrays by dtype and shape."""
    return textwrap.shorten(eqx_core.tree_pformat(value), 80, placeholder=" ...")


def _is_none(spec: AxisSpec) -> bool:
    return spec is None


def _axes_of(option: str, spec: AxisSpec, leaves: list[Any]) -> list[int | None]:
    """Return the axis of each of the leaves that one leaf of the specification stands for."""
    if spec is None or type(spec) is int:
        return [spec] * len(leaves)
    if type(spec) is if_array:
        axis = spec.axis
        return [axis if eqx_core.is_array(leaf) else None for leaf in leaves]
    if not callable(spec):
        raise ValueError(f"{_ALLOWED.format(option)}; got {short(spec)}. To map over nothing, write None.")
    axes: list[Any] = [spec(leaf) for leaf in leaves]
    for axis, leaf in zip(axes, leaves, strict=True):
        if axis is not None and type(axis) is not int:
            raise ValueError(
                f"{_ALLOWED.format(option)}; got `{getattr(spec, '__name__', spec)}`, which for {short(leaf)} returned "
                f"{short(axis)}. Let it return an int to map over that axis, or None to map over nothing."
            )
    return axes


_ALLOWED = "`{}` must consist of None, ints, and functions that return None or an int"


def _subtrees(option: str, spec: AxisSpec, outer: Any, tree: Any) -> list[Any]:
    """Return the part of `tree` that each leaf of `spec` stands for."""
    try:
        return outer.flatten_up_to(tree)
    except ValueError:
        pass
    try:
        # Says where they differ, and prints no arrays as the error above does.
        jax.tree.broadcast(spec, tree, is_leaf=_is_none)
    except ValueError as error:
        raise ValueError(
            f"`{option}` must have the structure of the values that it is for, or of their upper part; got "
            f"{short(spec)}. In detail: {error}"
        ) from None
    raise AssertionError


def axes_by_name(option: str, fun: Callable[..., Any], in_axes: dict[str, AxisSpec], args: tuple[Any, ...]) -> AxisSpec:
    """Return the specification for a tuple of arguments, given one by the names of the parameters.

    Raises:
      ValueError: A name is not that of an argument which is passed, or `fun` tells no names.
      TypeError: `fun` does not take these arguments.
    """
    signature = _signature(option, fun)
    passed = signature.bind(*args).arguments
    unknown = [name for name in in_axes if name not in passed]
    if unknown:
        raise ValueError(
            f"`{option}` must have the names of arguments that are passed as its keys; got {unknown}, which did not "
            f"correspond to any argument, where {list(passed)} are passed. Leave them out, or pass the arguments."
        )
    specs: list[AxisSpec] = []
    for name, value in passed.items():
        spec = in_axes.get(name, if_array(0))
        if signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            specs += spec if isinstance(spec, (tuple, list)) else [spec] * len(value)
        else:
            specs.append(spec)
    return tuple(specs)


def _signature(option: str, fun: Any) -> inspect.Signature:
    if isinstance(fun, eqx_core.Partial):
        fun = functools.partial(fun.func, *fun.args, **fun.keywords)
    try:
        return inspect.signature(fun)
    except ValueError:
        raise ValueError(
            f"`{option}` must be a tuple, an int, None or a function, as `{getattr(fun, '__name__', fun)}` does not "
            f"tell the names of its parameters; got a dict. Give the axes by position."
        ) from None
