"""Raise an error from inside a compiled program: `error_if`, `branched_error_if`."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

import eqx_core

from ._are_arrays import are_arrays
from ._check_message import message, verify_template
from ._jax_compat import hide_from_tracebacks
from ._on_error import BREAKPOINT_FRAMES, mode_of
from ._runtime_check import Check, nan_like, staged_check
from ._runtime_error import EquinoxTracetimeError, stack_here, without_inner_frames
from ._unvmap import unvmap_any

hide_from_tracebacks(__file__)


@without_inner_frames
def error_if(x: Any, pred: Any, msg: str, *, on_error: str = "default", **values: Any) -> Any:
    """Return `x`, and raise an error when the program runs if `pred` is true.

    The check is made when the result is computed. If nothing uses the result, there is no check.

    Args:
      x: Any PyTree. It must hold an array, unless `pred` is a Python bool.
      pred: Whether to raise: a bool, or an array of any shape, of which any may be true. Under `jax.vmap` one entry of
        the batch raises for all, and the error tells which.
      msg: The text of the error. With `values`, each `{name}` in it is filled in as by `str.format`.
      on_error: `"raise"`, `"breakpoint"`, `"nan"` or `"off"`, as in `on_error`; by default what that context says,
        else the environment variable `EQX_ON_ERROR`, else `"raise"`.
      **values: What to show in the text, from the entry of the batch that failed. Arrays that are large are shown by
        dtype and shape.

    Returns:
      `x`, as it is. Its tangents and cotangents pass the check by.

    Raises:
      EquinoxRuntimeError: `pred` is true. In a function compiled by `jax.jit` rather than `filter_jit`, an error of JAX
        with the same text.
      ValueError: `pred` is traced and `x` holds no array; or `msg` has a name that is not among the values.
      RuntimeError: `on_error` is none of the above.

    Example:
      >>> @eqx_filter.filter_jit
      ... def root(x):
      ...     return jnp.sqrt(eqx_filter.error_if(x, x < 0, "must not be negative, got {value}", value=x))
      >>> print(root(jnp.array(4.0)))
      2.0
      >>> try:
      ...     root(jnp.array(-4.0))
      ... except eqx_filter.EquinoxRuntimeError as error:
      ...     print(str(error).splitlines()[4])
      EquinoxRuntimeError: must not be negative, got -4.0
    """
    __tracebackhide__ = True
    return _checked(x, pred, 0, [msg], on_error, values)


@without_inner_frames
def branched_error_if(
    x: Any, pred: Any, index: Any, msgs: Sequence[str], *, on_error: str = "default", **values: Any
) -> Any:
    """Return `x`, and raise an error with one of several texts when the program runs if `pred` is true.

    Args:
      x: As in `error_if`.
      pred: As in `error_if`.
      index: The place in `msgs` of the text to raise: an int, or an integer array, of which the largest counts.
      msgs: The texts.
      on_error: As in `error_if`.
      **values: As in `error_if`.

    Returns:
      `x`, as it is.

    Raises:
      EquinoxRuntimeError: As for `error_if`.
      ValueError: As for `error_if`, or `index` is no place in `msgs`.

    Example:
      >>> try:
      ...     eqx_filter.branched_error_if(1.0, True, 1, ["too small", "too large"])
      ... except eqx_filter.EquinoxRuntimeError as error:
      ...     print(error)
      too large
    """
    __tracebackhide__ = True
    return _checked(x, pred, index, msgs, on_error, values)


def _checked(x: Any, pred: Any, index: Any, msgs: Sequence[str], on_error: str, values: dict[str, Any]) -> Any:
    __tracebackhide__ = True
    mode = mode_of(on_error)
    verify_template(msgs, values)
    if not eqx_core.is_array(index) and not 0 <= index < len(msgs):
        raise ValueError(
            f"`branched_error_if(index=...)` must be a place in `msgs`, at least 0 and less than {len(msgs)}; got "
            f"{index!r}. Give a text for it."
        )
    if mode == "off" or _is_false(pred):
        return x
    if not eqx_core.is_array(pred) and not eqx_core.is_array(index):
        return _fail_now(x, mode, message(msgs, int(index), jtu.tree_map(_on_host, values)))
    return _fail_later(x, pred, index, tuple(msgs), mode, values)


def _is_false(pred: Any) -> bool:
    return not isinstance(pred, jax.core.Tracer) and not np.asarray(pred).any()


def _on_host(value: Any) -> Any:
    return np.asarray(value) if eqx_core.is_array(value) and not isinstance(value, jax.core.Tracer) else value


def _fail_now(x: Any, mode: str, msg: str) -> Any:
    """Do what a check does that fails whatever the program is given."""
    __tracebackhide__ = True
    if mode == "raise":
        raise EquinoxTracetimeError(msg)
    if mode == "breakpoint":
        print(f"A check failed: {msg}\nThis is a debugger, at the check.")
        breakpoint()
        return x
    warnings.warn(f"A check fails whatever the program is given, and puts NaN in the place: {msg}", stacklevel=5)
    return jtu.tree_map(lambda leaf: nan_like(leaf) if eqx_core.is_array(leaf) else leaf, x)


def _fail_later(x: Any, pred: Any, index: Any, msgs: tuple[str, ...], mode: str, values: dict[str, Any]) -> Any:
    """Put the check into the program, or make it if there is no program."""
    __tracebackhide__ = True
    leaves, treedef = jtu.tree_flatten(x)
    where = [i for i, is_array in enumerate(are_arrays(leaves)) if is_array]
    if not where:
        raise ValueError(
            "`error_if(x=...)` must hold an array if `pred` does: there are no arrays to thread the error on; got "
            f"`{eqx_core.tree_pformat(x, width=60)}`. Pass the array that the rest of the program computes with."
        )
    pred = _reduced(pred, jnp.any, np.any)
    if mode == "breakpoint":
        _stage_breakpoint(pred, msgs[0] if len(msgs) == 1 else f"one of {', '.join(map(repr, msgs))}")
    shown, fill = _split(values)
    check = Check(msgs, fill, stack_here(), poison=mode != "raise")
    conditions = [pred, _reduced(index, jnp.max, np.max), *shown]
    checked = staged_check(check, conditions, [leaves[i] for i in where])
    for i, array in zip(where, checked, strict=True):
        leaves[i] = array
    return treedef.unflatten(leaves)


def _reduced(condition: Any, traced: Any, known: Any) -> Any:
    # What is known stays so under `jax.jit`: NumPy puts nothing into the program. So it does under `jax.vmap` if there is
    # nothing to be done.
    if not isinstance(condition, jax.core.Tracer):
        return known(np.asarray(condition))
    return traced(condition) if condition.shape else condition


def _split(values: dict[str, Any]) -> tuple[list[Any], Callable[[list[Any]], dict[str, Any]]]:
    """Return the arrays among the values of a message, and what makes the values of them again."""
    leaves, treedef = jtu.tree_flatten(values)
    traced = are_arrays(leaves)
    arrays = [_showable(leaf) for leaf, is_array in zip(leaves, traced, strict=True) if is_array]
    # The function is kept with the program, so it must not hold tracers.
    others = [None if is_array else leaf for leaf, is_array in zip(leaves, traced, strict=True)]

    def fill(arrays: list[Any]) -> dict[str, Any]:
        rest = iter(arrays)
        return treedef.unflatten([next(rest) if is_array else x for x, is_array in zip(others, traced, strict=True)])

    return arrays, fill


def _showable(value: Any) -> Any:
    return jr.key_data(value) if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value


def _stage_breakpoint(pred: Any, msg: str) -> None:
    note = f"A check failed: {msg}\nThis is a debugger. `EQX_ON_ERROR_BREAKPOINT_FRAMES` sets how many frames it shows."

    def stop() -> None:
        jax.debug.callback(lambda: print(note))
        jax.debug.breakpoint(num_frames=BREAKPOINT_FRAMES)

    jax.lax.cond(unvmap_any(pred), stop, lambda: None)
