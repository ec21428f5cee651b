"""Carry the output of a traced function across the boundary of `jax.jit`: its arrays, and how to rebuild the rest."""

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.core
import jax.tree_util as jtu

from ._are_arrays import are_arrays
from ._runtime_check import UNRAISED, raise_unraised


class Output(functools.partial):
    """The arrays of an output, waiting to be rebuilt: calling it gives the output.

    Its leaves are the arrays alone, since any other leaf would keep `jax.jit` off its fast path in every call. How to
    rebuild the output is its auxiliary data, so that `jax.jit` keeps it for each trace. That it is a `functools.partial`
    makes it in C what it would otherwise be in Python, 0.3 us of the 4 us that a call of `jax.jit` takes.
    """

    __slots__ = ()


jtu.register_pytree_node(Output, lambda output: (output.args[0], output.func), Output)


def pack(out: Any, *, checked: bool = False) -> Output:
    """Return what a traced function shall return instead of `out`; `checked` if a runtime check may fail in it."""
    leaves, treedef = jtu.tree_flatten(out)
    traced = are_traceable(leaves)
    arrays = [i for i, is_array in enumerate(traced) if is_array]
    statics = [i for i, is_array in enumerate(traced) if not is_array]
    if statics:
        rebuild = Rebuild(treedef, inverse(arrays + statics), tuple(leaves[i] for i in statics))
    elif arrays and jtu.treedef_is_leaf(treedef):
        rebuild = operator.itemgetter(0)
    else:
        rebuild = treedef.unflatten
    output = Output(rebuild, [leaves[i] for i in arrays])
    return once_passed(output) if checked else output


def once_passed(output: Output) -> Output:
    """Return an output that can be rebuilt only once the checks in the program have passed."""
    arrays = output.args[0]
    return Output(OncePassed(output.func, [array.size for array in arrays]), arrays) if arrays else output


class OncePassed:
    """Rebuilds an output as `rebuild` does, once the checks in the program have passed.

    Attributes:
      smallest: Which of the arrays takes the least memory to hold on to.
    """

    __slots__ = ("rebuild", "smallest")

    def __init__(self, rebuild: Callable[[Any], Any], sizes: Sequence[int]):
        self.rebuild = rebuild
        self.smallest = sizes.index(min(sizes))

    def __call__(self, arrays: Sequence[Any]) -> Any:
        # They are all ready at the same time.
        try:
            arrays[0].block_until_ready()
        except AttributeError:  # Being traced, they are none yet.
            return self.rebuild(arrays)
        if UNRAISED:
            raise_unraised()
        return self.rebuild(arrays)


class Rebuild:
    """Rebuilds an output that has leaves which are not arrays."""

    __slots__ = ("_pick", "_statics", "_treedef")

    def __init__(self, treedef: Any, order: Sequence[int], statics: tuple[Any, ...]):
        self._treedef = treedef
        self._pick = picker(order)
        self._statics = statics

    def __call__(self, arrays: Iterable[Any]) -> Any:
        return self._treedef.unflatten(self._pick((*arrays, *self._statics)))


def are_traceable(leaves: list[Any]) -> list[bool]:
    """Return of each leaf whether it is an array or any other value that is being traced."""
    return [a or isinstance(x, jax.core.Tracer) for x, a in zip(leaves, are_arrays(leaves), strict=True)]


def picker(indices: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function that picks the items at the indices out of a list or a tuple."""
    if len(indices) > 1:
        return operator.itemgetter(*indices)
    first = indices[0] if indices else 0
    return operator.itemgetter(slice(first, first + len(indices)))


def inverse(order: Sequence[int]) -> list[int]:
    """Return the permutation that undoes `order`."""
    places = [0] * len(order)
    for place, i in enumerate(order):
        places[i] = place
    return places
