"""The loop that can be differentiated in both modes, since its length is bounded: `bounded_while_loop`."""

import functools
from collections.abc import Callable
from typing import Any

import jax

import eqx_filter

from ._loop_state import Loop, LoopState

_Cond = Callable[[LoopState], jax.Array]
_Step = Callable[[LoopState], LoopState]


def bounded_while_loop(loop: Loop, max_steps: int, base: int) -> LoopState:
    """Return the last state of a loop.

    On its own it is one `jax.lax.while_loop`. To be differentiated, it is written out as nested scans of `base` steps,
    each of which is skipped when the loop has ended. What is within a scan is computed again on the way back, so that
    about `base * log(max_steps, base)` states are kept.

    Args:
      loop: The loop.
      max_steps: The most steps it takes, at least 1.
      base: The length of the scans, at least 2.
    """
    # What these close over has to be an argument, to be seen by the rule.
    cond, body = (eqx_filter.filter_closure_convert(fun, loop.state) for fun in (loop.cond, loop.body))

    @eqx_filter.filter_custom_jvp
    def run(cond: _Cond, body: _Step, state: LoopState) -> LoopState:
        return jax.lax.while_loop(_fresh(cond), _fresh(body), state)

    @run.def_jvp
    def run_jvp(primals: Any, tangents: Any) -> Any:
        return eqx_filter.filter_jvp(nested, primals, tangents)

    def nested(cond: _Cond, body: _Step, state: LoopState) -> LoopState:
        return _nested_scans(_fresh(cond), _fresh(body), max_steps, base)(state)

    return run(cond, body, loop.state)


def _fresh(converted: Callable[[LoopState], Any]) -> Callable[[LoopState], Any]:
    # JAX's caches hash what they are given, and a Module that holds traced arrays has no hash.
    return lambda state: converted(state)


def _nested_scans(cond: _Cond, body: _Step, max_steps: int, base: int) -> _Step:
    """Return a function that takes at least `max_steps` steps, unless `cond` ends them."""
    step, steps = body, 1
    while steps < max_steps or step is body:
        # The outermost level need not be full.
        length = min(base, -(-max_steps // steps))
        step = _scan(cond, step, length)
        steps *= length
    return step


def _scan(cond: _Cond, step: _Step, length: int) -> _Step:
    # Around the branch and not inside of it: a branch would hand out, at each step, a copy of all that it closes over.
    # In the innermost level too, which takes 0.4 of the time and of the memory for a step of one small matrix product.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def guarded(state: LoopState) -> LoopState:
        return jax.lax.cond(cond(state), step, lambda state: state, state)

    return lambda state: jax.lax.scan(lambda state, _: (guarded(state), None), state, length=length)[0]
