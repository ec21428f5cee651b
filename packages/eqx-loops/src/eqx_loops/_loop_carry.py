"""Take the user's carry of a loop apart, and put it together again: arrays, buffers, and what must not change."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core

from ._buffers import Buffer


class Carry:
    """The first value of a loop.

    Attributes:
      value: `init_val` with a strongly typed array for each leaf, and for each buffer its array.
      is_buffer: The same structure of bools: which of them are buffers.
      is_own_buffer: The same without the buffers of loops around this one.
    """

    def __init__(self, init_val: Any, buffers: Callable[[Any], Any] | None):
        with_paths, self._treedef = jtu.tree_flatten_with_path(init_val, is_leaf=_is_buffer)
        slots = [_as_array(f"init_val{jtu.keystr(path)}", leaf) for path, leaf in with_paths]
        self._chosen = _chosen(buffers, slots, self._treedef)
        self.value = self._treedef.unflatten([_array_of(slot) if is_one else slot for slot, is_one in self._zip(slots)])
        # A buffer of a loop around this one has a predicate already.
        self._outer = [slot.pred if is_one and _is_buffer(slot) else None for slot, is_one in self._zip(slots)]
        self.is_buffer = self._mask(self._chosen)
        self.is_own_buffer = self._mask(
            [is_one and outer is None for is_one, outer in zip(self._chosen, self._outer, strict=True)]
        )

    def _mask(self, which: Sequence[bool]) -> Any:
        slots = zip(self._slots(self.value), which, strict=True)
        return self._treedef.unflatten([jtu.tree_map(lambda _, is_one=is_one: is_one, slot) for slot, is_one in slots])

    def wrap(self, value: Any, pred: Any) -> Any:
        """Return the user's carry, given the value of a state.

        Args:
          value: What has the structure of `self.value`.
          pred: `bool[]`, whether the step is one of this element of the batch.
        """
        if not any(self._chosen):
            return value
        slots = zip(self._slots(value), self._chosen, self._outer, strict=True)
        return self._treedef.unflatten(
            [_wrapped(slot, pred, outer) if is_one else slot for slot, is_one, outer in slots]
        )

    def unwrap(self, given: Any, returned: Any) -> Any:
        """Return the value of the next state.

        Args:
          given: The carry that `body_fun` got.
          returned: The carry that it returned.

        Raises:
          ValueError: Structure, shapes or dtypes differ.
        """
        __tracebackhide__ = True
        slots, treedef = jtu.tree_flatten(returned, is_leaf=_is_buffer)
        slots = [_as_array(None, slot) for slot in slots]
        expected = self._slots(given)
        if treedef != self._treedef or not all(map(_alike, expected, slots)):
            raise ValueError(_mismatch(given, treedef.unflatten(slots)))
        return treedef.unflatten([_array_of(slot) if is_one else slot for slot, is_one in self._zip(slots)])

    def finish(self, value: Any) -> Any:
        """Return what the loop returns, given the value of its last state."""
        slots = [
            slot if outer is None else Buffer(slot, outer)
            for slot, outer in zip(self._slots(value), self._outer, strict=True)
        ]
        return self._treedef.unflatten(slots)

    def _slots(self, value: Any) -> list[Any]:
        return self._treedef.flatten_up_to(value)

    def _zip(self, slots: Sequence[Any]) -> Any:
        return zip(slots, self._chosen, strict=True)


def _is_buffer(node: Any) -> bool:
    return isinstance(node, Buffer)


def _wrapped(array: Any, pred: Any, outer: Any) -> Buffer:
    return Buffer(array, pred if outer is None else jnp.logical_and(outer, pred))


def _array_of(slot: Any) -> Any:
    return slot.array if _is_buffer(slot) else slot


def _as_array(path: str | None, leaf: Any) -> Any:
    """Return a leaf as a strongly typed array. One that cannot be is an error if it has a path, or else stays."""
    if _is_buffer(leaf):
        return leaf
    if not eqx_core.is_array_like(leaf):
        if path is None:
            return leaf
        raise TypeError(
            f"`while_loop(init_val=...)` must hold only arrays, and numbers, which become arrays; got "
            f"`{eqx_core.tree_pformat(leaf)}` at `{path}`. Let `cond_fun` and `body_fun` close over what is no array."
        )
    array = jnp.asarray(leaf)
    return jax.lax.convert_element_type(array, array.dtype) if jax.typeof(array).weak_type else array


def _chosen(buffers: Callable[[Any], Any] | None, slots: list[Any], treedef: Any) -> list[bool]:
    """Return for each leaf whether it is to be a buffer."""
    if buffers is None:
        return [False] * len(slots)
    chosen: list[bool] = []

    def choose(stand_ins: list[Any]) -> None:
        nodes = jtu.tree_leaves(buffers(treedef.unflatten(stand_ins)))
        for node in nodes:
            if not any(node is stand_in for stand_in in stand_ins):
                raise ValueError(
                    f"`while_loop(buffers=...)` must return arrays of the carry that it gets, or PyTrees of them; got "
                    f"`{eqx_core.tree_pformat(node)}`. Return `carry.buffer`, for example, or a list of such nodes."
                )
        chosen.extend(any(node is stand_in for node in nodes) for stand_in in stand_ins)

    # The same array may be in several places; traced, each of these is an array of its own.
    jax.eval_shape(choose, [jax.ShapeDtypeStruct(slot.shape, slot.dtype) for slot in slots])
    return chosen


def _alike(expected: Any, slot: Any) -> bool:
    if type(expected) is Buffer or type(slot) is Buffer:
        return type(expected) is type(slot) and _alike(expected.array, slot.array)
    return eqx_core.is_array(slot) and (expected.shape, expected.dtype) == (slot.shape, slot.dtype)


def _mismatch(given: Any, returned: Any) -> str:
    before, after = (eqx_core.tree_pformat(tree).split("\n") for tree in (given, returned))
    lines = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    if not lines:
        lines = [f"- {jtu.tree_structure(given)}", f"+ {jtu.tree_structure(returned)}"]
    return (
        "`body_fun` must have the same input and output structure, with the same shapes and dtypes; got, with - for "
        "what goes in and + for what comes out,\n"
        + "\n".join(lines)
        + "\nReturn a carry like that which `body_fun` gets."
    )
