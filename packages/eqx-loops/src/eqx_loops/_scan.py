"""Loop over the leading axis of arrays, differentiated by the kind of loop that is asked for: `scan`."""

import functools
import operator
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core
import eqx_filter

from ._buffers import Buffer
from ._scan_step import ScanStep, strong_arrays
from ._slots import blank_slots
from ._take_row import take_row
from ._while_loop import while_loop

_KINDS = ("lax", "bounded", "checkpointed", "segmented")


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    *,
    buffers: Callable[[Any], Any] | None = None,
    kind: Literal["lax", "bounded", "checkpointed", "segmented"],
    checkpoints: int | Literal["all"] | None = None,
    base: int = 16,
    levels: int = 2,
) -> tuple[Any, Any]:
    """Return the last carry, and the results of all steps stacked, of a loop over the leading axis of `xs`.

    It is `jax.lax.scan` with a choice of what is kept for reverse mode. Any kind but "lax" is a `while_loop` of that kind,
    of which `xs` and the results are buffers. `f` may be a Module, a bound method, or a function that closes over
    anything.

    Args:
      f: A function from the carry and one slice to the next carry and a result. The carry must keep its structure, shapes
        and dtypes.
      init: The first carry: any PyTree of arrays and numbers. Numbers become arrays.
      xs: Any PyTree, whose arrays have a leading axis of one length. What is no array is the same in each slice.
      length: The number of steps; needed if there is no array in `xs`.
      buffers: A function from the carry to an array of it, or a PyTree of them, to be changed in place, as for
        `while_loop`. Kind "lax" needs none, and gives `f` the arrays themselves.
      kind: "lax" keeps what each step needs for its derivative, and is the only one with both modes in any order. For
        the others see `while_loop`.
      checkpoints: How many carries kind "checkpointed" keeps, at least 1, or "all" for one for each step; by default about
        `sqrt(2 * length)`.
      base: As for kind "bounded" of `while_loop`.
      levels: As for kind "segmented" of `while_loop`.

    Returns:
      The last carry, and the results with a leading axis in each array. What is no array in a result is there once.

    Raises:
      TypeError: `f` does not return a pair, or a leaf of `init` is no array or number.
      ValueError: The lengths of `xs` differ, from each other or from `length`, or there is none. `f` returns a carry of
        another structure, shape or dtype. `kind` is none of these, or an option of it is out of range.

    Example:
      >>> def step(total, x):
      ...     return total + x, total * x
      >>> total, products = scan(step, 0.0, jnp.arange(4.0), kind="segmented")
      >>> print(total, products)
      6.0 [0. 0. 2. 9.]
    """
    __tracebackhide__ = True
    if kind not in _KINDS:
        raise ValueError(
            f"`scan(kind=...)` must be one of {', '.join(map(repr, _KINDS))}; got {eqx_core.tree_pformat(kind)}. Choose "
            f'"lax" to keep all that each step needs, "segmented" or "checkpointed" to keep less and compute it again.'
        )
    arrays, static = eqx_filter.partition(xs, eqx_core.is_array)
    length = _length(arrays, length)
    step, init = ScanStep(f, static), strong_arrays(init)
    if kind == "lax":
        last, stacked = jax.lax.scan(step, init, arrays, length=length)
        return last, step.join(stacked)
    loop = functools.partial(while_loop, max_steps=length, kind=kind, base=base, levels=levels)
    checkpoints = max(length, 1) if checkpoints == "all" else checkpoints
    last, stacked = _as_while_loop(
        functools.partial(loop, checkpoints=checkpoints), step, init, arrays, length, buffers
    )
    return last, step.join(stacked)


def _as_while_loop(
    loop: Callable[..., Any],
    step: ScanStep,
    init: Any,
    xs: Any,
    length: int,
    buffers: Callable[[Any], Any] | None,
) -> tuple[Any, Any]:
    """Return the last carry and the stacked results, by a `while_loop`."""
    leaves, treedef = jtu.tree_flatten(xs)
    structs, treedef_of_results = jtu.tree_flatten(step.results(init, xs, buffers))
    # As if they were buffers of a loop around this one: what they hold at first needs no gradient of its own.
    rows, results = ([Buffer(x, jnp.asarray(True)) for x in some] for some in (leaves, blank_slots(structs, length)))

    def body(state: Any) -> Any:
        __tracebackhide__ = True
        index, carry, rows, results = state
        taken = [take_row(buffer.array, index) for buffer in rows]
        rows = [Buffer(array, buffer.pred) for (array, _), buffer in zip(taken, rows, strict=True)]
        carry, result = step(carry, treedef.unflatten([row for _, row in taken]))
        result = [buffer.at[index].set(x) for buffer, x in zip(results, jtu.tree_leaves(result), strict=True)]
        return index + 1, carry, rows, result

    def chosen(state: Any) -> Any:
        _, carry, rows, results = state
        return (() if buffers is None else buffers(carry)), rows, results

    _, last, _, results = loop(lambda state: state[0] < length, body, (0, init, rows, results), buffers=chosen)
    return last, treedef_of_results.unflatten([buffer.array for buffer in results])


def _length(xs: Any, length: int | None) -> int:
    """Return the number of steps, or raise if there is no one answer."""
    lengths = {} if length is None else {"length": operator.index(length)}
    for path, x in jtu.tree_flatten_with_path(xs)[0]:
        if not x.shape:
            raise ValueError(
                f"`scan(xs=...)` must hold arrays with a leading axis; got `{eqx_core.tree_pformat(x)}` at "
                f"`xs{jtu.keystr(path)}`. Let `f` close over what is the same in every step."
            )
        lengths[f"xs{jtu.keystr(path)}"] = x.shape[0]
    if not lengths:
        raise ValueError(
            "`scan(length=...)` must be given where `xs` holds no array; got None. Write the number of steps."
        )
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{number} for `{name}`" for name, number in lengths.items())
        raise ValueError(
            f"`scan(xs=...)` must hold arrays whose leading axes have one length, which is `length` if that is given; got "
            f"inconsistent lengths: {listed}. Cut them to one length, or leave out `length`."
        )
    return next(iter(lengths.values()))
