"""Run one of several branches, whose results may hold more than arrays: what `filter_cond` and `filter_switch` share."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.tree_util as jtu

from ._carry import NUMBERS, Change, Split, changes, explain, leaf_change
from ._jit_output import are_traceable


class Branches:
    """The branches of one call of `jax.lax.cond` or `jax.lax.switch`.

    Attributes:
      on_arrays: The branches, as functions from the arrays of the operands to those of the results.
    """

    def __init__(self, option: str, names: Sequence[str], branches: Sequence[Callable[..., Any]], operands: Split):
        """Prepare a call.

        Args:
          option: How the user has given the branches: the start of an error.
          names: What to call each branch.
          branches: The functions that the user has given.
          operands: The tuple of their arguments.
        """
        self._option = option
        self._names = names
        self._outs: dict[int, Any] = {}
        self.on_arrays = [self._on_arrays(i, branch, operands) for i, branch in enumerate(branches)]

    def _on_arrays(self, i: int, branch: Callable[..., Any], operands: Split) -> Callable[[list[Any]], list[Any]]:
        def on_arrays(arrays: list[Any]) -> list[Any]:
            __tracebackhide__ = True
            out = self._outs[i] = branch(*operands.join(arrays))
            if len(self._outs) == len(self._names):
                self._check()
            # Whether a number stands for an array is known only when all branches have been traced.
            return [leaf for leaf, is_number in _numbers(out) if is_number]

        return on_arrays

    def join(self, arrays: Iterable[Any]) -> Any:
        """Return the result, given the arrays that one of the branches has returned."""
        columns = zip(*map(_numbers, self._outs.values()), strict=True)
        remaining = iter(arrays)
        leaves: list[Any] = []
        for column in columns:
            leaf, is_number = column[0]
            array = next(remaining) if is_number else None
            leaves.append(array if any(are_traceable([leaf for leaf, _ in column])) else leaf)
        return jtu.tree_structure(next(iter(self._outs.values()))).unflatten(leaves)

    def _check(self) -> None:
        """Raise unless all branches return the same but for the values of arrays."""
        outs = [self._outs[i] for i in range(len(self._names))]
        for name, out in zip(self._names, outs, strict=True):
            if jtu.tree_structure(out) != jtu.tree_structure(outs[0]):
                raise self._error(self._names[0], name, changes(outs[0], out, "out"))
        paths = [f"out{jtu.keystr(path)}" for path, _ in jtu.tree_flatten_with_path(outs[0])[0]]
        for path, column in zip(paths, zip(*map(jtu.tree_leaves, outs), strict=True), strict=True):
            traced = are_traceable(list(column))
            first = traced.index(True) if any(traced) else 0
            for name, leaf in zip(self._names, column, strict=True):
                found = leaf_change(path, column[first], leaf)
                if found is not None:
                    raise self._error(self._names[first], name, [found])

    def _error(self, first: str, second: str, found: Sequence[Change]) -> TypeError:
        return TypeError(
            f"`{self._option}` must all return the same structure, shapes, dtypes and static values; got, from "
            f"`{first}` to `{second}`:\n{explain(found)}"
        )


def _numbers(out: Any) -> list[tuple[Any, bool]]:
    """Return each leaf with whether it is an array or a Python number."""
    leaves = jtu.tree_leaves(out)
    return [(x, a or isinstance(x, NUMBERS)) for x, a in zip(leaves, are_traceable(leaves), strict=True)]
