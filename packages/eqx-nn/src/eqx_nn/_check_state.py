"""Find updates of a state that get lost: `check_state`."""

import functools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax.tree_util as jtu

import eqx_filter
import eqx_filter.internal

from ._jax_compat import anew, names_in
from ._state import State
from ._state_writes import Write, collecting, is_collecting, parsed

_P = ParamSpec("_P")
_Out = TypeVar("_Out")


def check_state(fn: Callable[_P, _Out]) -> Callable[_P, _Out]:
    """Return `fn`, which raises if it updates a state without returning the update.

    A call first traces `fn`, and follows each update of a `State` in it, through all transformations, to the states that
    `fn` returns. It is for finding mistakes, and costs a trace each time; what is not checked costs nothing. With
    `EQX_CHECK_STATE=1` in the environment when eqx-nn is imported, all functions under `filter_jit` are checked whenever
    they are traced.

    Args:
      fn: Any function that can be traced as by `filter_jit`, such as a loss or a training step.

    Returns:
      A function of the same arguments that returns what `fn` does.

    Raises:
      RuntimeError: On calling, an update gets lost; the message names the layer.

    Example:
      >>> norm, state = eqx_nn.make_with_state(eqx_nn.BatchNorm)(input_size=3, axis_name="batch")
      >>> @eqx_nn.check_state
      ... def forward(x, state):
      ...     x, new_state = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
      ...     return x
      >>> forward(jnp.ones((8, 3)), state)
      Traceback (most recent call last):
      RuntimeError: `check_state(fn)` must be given a function that returns every state that it updates; `forward` ...
    """

    @functools.wraps(fn)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _Out:
        if not is_collecting():  # Else what checks an outer function sees this one too.
            _check(fn, args, kwargs)
        return fn(*args, **kwargs)

    return checked


def _check(fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    with collecting() as writes, anew():
        jaxpr, out, _ = eqx_filter.filter_make_jaxpr(fn)(*args, **kwargs)
    is_state = [
        isinstance(node, State)
        for node in jtu.tree_leaves(out, is_leaf=lambda node: isinstance(node, State))
        for _ in jtu.tree_leaves(node)
    ]
    lost = _lost(writes, names_in(jaxpr.jaxpr), names_in(jaxpr.jaxpr, is_state))
    if lost:
        names = ", ".join(f"`{index}`" for index in dict.fromkeys(lost))
        raise RuntimeError(
            f"`check_state(fn)` must be given a function that returns every state that it updates; "
            f"`{getattr(fn, '__qualname__', type(fn).__qualname__)}` loses what was written to {names}. Pass each "
            f"new state on, and return the last one: `out, state = layer(x, state)`, then `return out, state`."
        )


def _lost(writes: dict[int, Write], present: Counter[str], returned: Counter[str]) -> list[str]:
    """Return the indices of the writes that do not reach a state that is returned, in order.

    Args:
      writes: All that were traced, by number.
      present: The names in the program.
      returned: The names in the part of the program that computes the states that are returned.
    """
    numbers = {write[0] for name in present if (write := parsed(name))}
    kept = {(write.index, write.lines) for write in writes.values() if write.name in returned}
    # JAX has tidied these up; or it has traced their function once more, and then the other trace is in the program.
    absent = {
        n: write.index for n, write in writes.items() if n not in numbers and (write.index, write.lines) not in kept
    }
    # Functions that were traced when another one was checked have writes that are not among these.
    lost = dict(write for name in present - returned if (write := parsed(name)))
    return [index for _, index in sorted((absent | lost).items())]


if os.environ.get("EQX_CHECK_STATE", "0") not in ("", "0"):
    eqx_filter.internal.check_each_trace(check_state)
