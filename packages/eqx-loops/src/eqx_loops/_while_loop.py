"""Repeat a function while a condition holds, and differentiate the whole: `while_loop`."""

from collections.abc import Callable
from typing import Any, Literal

import eqx_core

from ._bounded_loop import bounded_while_loop
from ._checkpointed_loop import checkpointed_while_loop
from ._initial_contents import pass_where_unwritten
from ._lax_loop import lax_while_loop
from ._loop_state import Loop, LoopState, prepare
from ._segmented import segmented_while_loop

_KINDS = ("lax", "bounded", "checkpointed", "segmented")


def while_loop(
    cond_fun: Callable[[Any], Any],
    body_fun: Callable[[Any], Any],
    init_val: Any,
    *,
    max_steps: int | None = None,
    buffers: Callable[[Any], Any] | None = None,
    kind: Literal["lax", "bounded", "checkpointed", "segmented"],
    checkpoints: int | None = None,
    base: int = 16,
    levels: int = 2,
) -> Any:
    """Return what is left of `init_val` after `val = body_fun(val)` for as long as `cond_fun(val)` is true.

    It is `jax.lax.while_loop` with derivatives, early stopping included. Under `jax.vmap` it runs until the last element
    of the batch has finished, and those that have finished before stay as they are.

    Args:
      cond_fun: A function from the carry to a bool, or `bool[]`. It has no derivative.
      body_fun: A function from the carry to the next one, of the same structure, shapes and dtypes. It may close over
        arrays, which are then differentiated too.
      init_val: The first carry: any PyTree of arrays and numbers. Numbers become arrays.
      max_steps: The most steps to take, at least 0. Kinds "bounded" and "segmented" need it, "checkpointed" if
        `checkpoints` is not given.
      buffers: A function from the carry to an array of it, or a PyTree of them, which the loop is to change in place.
        In `cond_fun` and `body_fun` these offer only `buffer[item]`, `buffer.at[item].set(x, pred=True)`, `shape`,
        `dtype`, `size` and `ndim`. Each location may be written once, and read only after that; this is not checked.
      kind: How it is differentiated. "lax": in forward mode only. "bounded": in both modes. "checkpointed": in reverse
        mode, keeping `checkpoints` carries. "segmented": in both modes, keeping about `max_steps ** (1 / levels)`
        carries for each level; the fastest.
      checkpoints: How many carries kind "checkpointed" keeps, at least 1; by default about `sqrt(2 * max_steps)`.
      base: Kind "bounded" keeps about `base * log(max_steps, base)` carries; at least 2.
      levels: How deep kind "segmented" nests its segments, at least 1.

    Returns:
      The last carry.

    Raises:
      TypeError: A leaf of `init_val` is no array or number.
      ValueError: `body_fun` returns a carry of another structure, shape or dtype, `cond_fun` something else than a bool,
        `buffers` something else than arrays of the carry; or an option is missing or out of range.

    Example:
      >>> def sqrt(x):
      ...     return while_loop(
      ...         lambda y: jnp.abs(y * y - x) > 1e-3, lambda y: (y + x / y) / 2, x, max_steps=20, kind="bounded"
      ...     )
      >>> y, slope = jax.value_and_grad(sqrt)(9.0)
      >>> print(f"{y:.3f} {slope:.3f}")
      3.000 0.167
    """
    __tracebackhide__ = True
    _check(kind, max_steps, checkpoints, base, levels)
    loop = prepare(cond_fun, body_fun, init_val, max_steps=max_steps, buffers=buffers)
    if max_steps == 0:
        return loop.finish(loop.state.value)
    return loop.finish(_run(loop, kind, max_steps, checkpoints, base, levels).value)


def _run(loop: Loop, kind: str, max_steps: Any, checkpoints: int | None, base: int, levels: int) -> LoopState:
    if kind == "lax":
        return lax_while_loop(loop)
    loop = pass_where_unwritten(loop)
    if kind == "bounded":
        return bounded_while_loop(loop, max_steps, base)
    if kind == "checkpointed":
        return checkpointed_while_loop(loop, max_steps, checkpoints)
    return segmented_while_loop(loop, max_steps, levels)


def _check(kind: Any, max_steps: Any, checkpoints: Any, base: Any, levels: Any) -> None:
    """Raise unless the options are such that this kind of loop can be made."""
    if kind not in _KINDS:
        raise ValueError(
            f"`while_loop(kind=...)` must be one of {', '.join(map(repr, _KINDS))}; got {eqx_core.tree_pformat(kind)}. "
            f'Choose "lax" for no derivative or forward mode, "segmented" or "checkpointed" for reverse mode, "bounded" '
            f"for both."
        )
    _check_int("max_steps", max_steps, 0, "Choose a bound before tracing; the loop may still end earlier.")
    _check_int("checkpoints", checkpoints, 1, "More take more memory and less time.")
    _check_int("base", base, 2, "The default is 16.")
    _check_int("levels", levels, 1, "The default is 2.")
    if kind in ("bounded", "segmented") and max_steps is None:
        raise ValueError(
            f'`while_loop(max_steps=...)` must be given for `kind="{kind}"`; got None. Write the most steps that it may '
            f"take; it still ends as soon as `cond_fun` returns False."
        )
    if kind == "checkpointed" and max_steps is None and checkpoints is None:
        raise ValueError(
            '`while_loop(checkpoints=...)` must be given for `kind="checkpointed"` without `max_steps`; got None for '
            "both. Write how many carries may be kept, or the most steps that it may take."
        )


def _check_int(name: str, value: Any, least: int, advice: str) -> None:
    if value is None and name in ("max_steps", "checkpoints"):
        return
    if type(value) is not int or value < least:
        raise ValueError(
            f"`while_loop({name}=...)` must be a Python int of at least {least}; got `{eqx_core.tree_pformat(value)}`. "
            f"{advice}"
        )
