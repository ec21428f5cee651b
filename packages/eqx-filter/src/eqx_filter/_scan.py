"""Loop over the leading axis of arrays, with a carry of anything: `filter_scan`."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core

from ._axes import short
from ._carry import Split, carried
from ._remembered import run_remembered
from ._transform import Transformed


class Scanned(Transformed):
    """What `filter_scan` compiles: a step, repeated over slices."""

    f: Callable[..., Any]
    length: int | None = eqx_core.field(static=True)
    reverse: bool = eqx_core.field(static=True)
    unroll: int | bool = eqx_core.field(static=True)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.f

    def __call__(self, init: Any, xs: Any) -> tuple[Any, Any]:
        __tracebackhide__ = True
        carry, slices = Split(init), Split(xs)
        outs: list[Split] = []

        def step(arrays: list[Any], slice_arrays: list[Any]) -> tuple[list[Any], list[Any]]:
            __tracebackhide__ = True
            given = carry.join(arrays)
            returned, out = _pair(self.f(given, slices.join(slice_arrays)))
            outs.append(Split(out))
            return carried(_F, carry, given, returned, "carry"), outs[-1].arrays

        options = {"length": self.length, "reverse": self.reverse, "unroll": self.unroll}
        last, stacked = jax.lax.scan(step, carry.arrays, slices.arrays, **options)
        return carry.join(last), outs[-1].join(stacked)


_F = "filter_scan(f=...)"


def filter_scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    *,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """Return the last carry, and the results of all steps stacked, of a loop over the leading axis of `xs`.

    It is `jax.lax.scan` for anything: `f` may be a Module, a bound method or a Partial, and in `init`, `xs` and the
    results of `f` only the arrays take part. What is no array is the same in every step, and a Python number is no
    array: to let it change, make it one by `jnp.asarray`. The loop is compiled once for each `f` and kind of arguments.

    Args:
      f: A function from the carry and one slice to the next carry and a result. The carry that it returns must have
        the structure, shapes, dtypes and static values of that which it gets.
      init: The first carry: any PyTree.
      xs: Any PyTree, whose arrays have a leading axis of one length. For layers that are stacked in one Module, the
        slice is one layer.
      length: The number of steps; needed if there is no array in `xs`.
      reverse: Whether to go from the last slice to the first. The results stay in the places of their slices.
      unroll: How many steps to write out for each turn of the compiled loop, or True for all of them.

    Returns:
      The last carry, and the results with a leading axis in each array. What is no array in a result is there once.

    Raises:
      TypeError: A step returns a carry that differs in more than the values of arrays, or does not return a pair.
      ValueError: The lengths of `xs` differ, from each other or from `length`, or there is none.

    Example:
      >>> def step(state, x):
      ...     state = state | {"sum": state["sum"] + x}
      ...     return state, state["sum"]
      >>> state, sums = filter_scan(step, {"sum": jnp.array(0.0), "name": "total"}, jnp.arange(4.0))
      >>> print(state["name"], state["sum"], sums)
      total 6.0 [0. 1. 3. 6.]
    """
    __tracebackhide__ = True
    length = None if length is None else operator.index(length)
    _check_lengths(xs, length)
    return run_remembered(Scanned(f, length, bool(reverse), unroll), init, xs)


def _pair(out: Any) -> Any:
    if isinstance(out, (tuple, list)) and len(out) == 2:
        return out
    raise TypeError(
        f"`{_F}` must return a pair of the next carry and a result; got {short(out)}. Write `return carry, None` where "
        f"there is no result."
    )


def _check_lengths(xs: Any, length: int | None) -> None:
    """Raise unless all arrays of `xs` have a leading axis of one length, which is `length` if that is given."""
    lengths = {f"xs{jtu.keystr(path)}": x for path, x in jtu.tree_flatten_with_path(xs)[0] if eqx_core.is_array(x)}
    first = None if length is None else ("length", length)
    for path, x in lengths.items():
        if not x.shape:
            raise ValueError(
                f"`filter_scan(xs=...)` must hold arrays with a leading axis; got {short(x)} at `{path}`. Let `f` close "
                f"over what is the same in every step, or put it into the carry."
            )
        if first is None:
            first = path, x.shape[0]
        elif x.shape[0] != first[1]:
            raise ValueError(
                f"`filter_scan(xs=...)` must hold arrays whose leading axes have one length; got {first[1]} for "
                f"`{first[0]}` and {x.shape[0]} for `{path}`. Cut them to one length, or leave out `length`."
            )
    if first is None:
        raise ValueError(
            "`filter_scan(length=...)` must be given where `xs` holds no array; got None. Write the number of steps."
        )
