"""The loop whose steps are recomputed segment by segment in reverse mode: `segmented_while_loop`.

With `levels=2` the forward pass keeps the state at the start of each of about `sqrt(max_steps)` segments. The backward
pass takes the segments from the last to the first: it runs one again, now keeping what the pullback of each step needs,
and pulls the cotangents back through it. Each further level divides the segments again, for less memory and one more
evaluation of each step. Only segments that the loop has reached are run, and of the last only its steps.

Both passes are loops of operations that forward mode can differentiate, so that there are Hessians, forward over reverse.

Source: Chen, Xu, Zhang, Guestrin (2016), "Training deep nets with sublinear memory cost", sections 4.1 and 4.4.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_filter

from ._linear_step import LinearStep
from ._loop_state import Loop, LoopState
from ._perturbation import Body
from ._reverse_rule import Moves, with_reverse_rule
from ._slots import blank_slots, new_slots, read_slot, write_slot

_Condition = Callable[[LoopState], Any]
_Bars = tuple[Any, Any]
"""Cotangents: the sum so far of those of what the step closes over, and those of a state."""


def segmented_while_loop(loop: Loop, max_steps: int, levels: int) -> LoopState:
    """Return the last state of a loop.

    Args:
      loop: The loop.
      max_steps: The most steps that it may take, at least 1.
      levels: How many levels of segments, at least 1. With 1 the residuals of all steps are kept.
    """
    lengths = segment_lengths(max_steps, levels)
    # Without levels in between the forward pass keeps residuals, when it is not known yet which of them will be needed.
    rules = functools.partial(_forward, loop, lengths), functools.partial(_backward, loop, lengths)
    return with_reverse_rule(loop, *rules, needs_all=levels == 1)


def segment_lengths(max_steps: int, levels: int) -> list[int]:
    """Return how many steps a segment of each level has: from `max_steps` down to 1, in `levels` parts.

    Each is a multiple of the next, but for the first, so that only last segments are shorter.
    """
    root = 1
    while root**levels < max_steps:
        root += 1
    return [max_steps, *(root**level for level in range(levels - 1, -1, -1))]


def _forward(
    loop: Loop, lengths: list[int], cond: _Condition, body: Body, state: LoopState, moves: Moves
) -> tuple[LoopState, Any]:
    linear = LinearStep(body, state, loop.is_buffer, moves) if len(lengths) == 2 else None
    last, tape = _Segments(loop, lengths, body, state, linear).record(0, state, lambda state: cond(state))
    return last, (last.step, eqx_filter.filter(last, loop.is_buffer), tape)


def _backward(
    loop: Loop, lengths: list[int], kept: Any, cotangent: Any, body: Body, state: LoopState, needed: Moves
) -> _Bars:
    end, buffers, tape = kept
    segments = _Segments(loop, lengths, body, state, LinearStep(body, state, loop.is_buffer, needed))
    zeros = jtu.tree_map(lambda x, wanted: jnp.zeros_like(x) if wanted else None, body, needed[0])
    return segments.pull(0, tape, state.step, end, buffers, (zeros, cotangent))


class _Segments:
    """Runs segments of a loop forwards, keeping something for each part, and backwards.

    A part of a segment of the last level is one step, of which the residuals are kept. Other parts are segments of the
    next level, of which the first state is kept, without the buffers: these have their last contents from the start.
    """

    def __init__(self, loop: Loop, lengths: list[int], body: Body, state: LoopState, linear: LinearStep | None):
        """Remember a loop.

        Args:
          loop: The loop.
          lengths: See `segment_lengths`.
          body: Its step, with all that it closes over.
          state: A state, for its types.
          linear: Its step, linearised. It is not needed to run segments forwards on any level but the last.
        """
        self._lengths, self._body, self._linear = lengths, body, linear
        self._is_buffer, self._types = loop.is_buffer, state
        self._invariants = [] if linear is None else linear.invariants(body, state)

    def record(self, level: int, state: LoopState, goes_on: _Condition) -> tuple[LoopState, Any]:
        """Return the state at the end of a segment, and the tape of what was kept of its parts.

        Args:
          level: The level of the segment, from 0.
          state: The state at its start.
          goes_on: Whether the segment has another step, given the state.
        """
        length, part = self._lengths[level : level + 2]
        linear, first = self._linear if self._is_last(level) else None, state.step

        def one(carry: tuple[LoopState, Any]) -> tuple[LoopState, Any]:
            state, tape = carry
            if linear is None:
                after, kept = self._steps(state, goes_on, part), self._without_buffers(state)
            else:
                after, kept = linear.record(self._body, state)
            return after, write_slot(tape, (state.step - first) // part, kept)

        slots = -(-length // part)
        blank = new_slots(self._without_buffers(state), slots) if linear is None else blank_slots(linear.kept, slots)
        return jax.lax.while_loop(lambda carry: goes_on(carry[0]), one, (state, blank))

    def pull(self, level: int, tape: Any, first: Any, end: Any, buffers: Any, bars: _Bars) -> _Bars:
        """Return the cotangents at the start of a segment.

        Args:
          level: The level of the segment, from 0.
          tape: What `record` has kept of it.
          first: The number of steps before it.
          end: The number of steps up to its end.
          buffers: The last state, with None for what is no buffer.
          bars: The cotangents at its end.
        """
        over_a_part = self._over_a_step if self._is_last(level) else self._over_a_segment

        def one(carry: tuple[Any, Any, _Bars]) -> tuple[Any, Any, _Bars]:
            end, buffers, bars = carry
            return over_a_part(level, tape, first, end, buffers, bars)

        return jax.lax.while_loop(lambda carry: carry[0] > first, one, (end, buffers, bars))[-1]

    def _over_a_step(self, level: int, tape: Any, first: Any, end: Any, buffers: Any, bars: _Bars) -> Any:
        """Return the number of steps before the last one, the buffers, and the cotangents there."""
        assert self._linear is not None
        state, (total, state_bar) = eqx_filter.combine(buffers, self._types), bars
        more, state_bar = self._linear.pull(self._invariants, read_slot(tape, end - 1 - first), state, state_bar)
        return end - 1, buffers, (jtu.tree_map(jnp.add, total, more), state_bar)

    def _over_a_segment(self, level: int, tape: Any, first: Any, end: Any, buffers: Any, bars: _Bars) -> Any:
        """Likewise for the last part, a segment."""
        index = (end - 1 - first) // self._lengths[level + 1]
        start = eqx_filter.combine(read_slot(tape, index), buffers)
        after, inner = self.record(level + 1, start, lambda state: state.step < end)
        # The same contents as before, but in the place where they have been written: going on with these spares a copy.
        buffers = eqx_filter.filter(after, self._is_buffer)
        return start.step, buffers, self.pull(level + 1, inner, start.step, end, buffers, bars)

    def _steps(self, state: LoopState, goes_on: _Condition, steps: int) -> LoopState:
        """Return the state after so many steps, or fewer if there are no more."""
        end = state.step + steps
        return jax.lax.while_loop(
            lambda state: goes_on(state) & (state.step < end), lambda state: self._body(state), state
        )

    def _is_last(self, level: int) -> bool:
        return level == len(self._lengths) - 2

    def _without_buffers(self, state: LoopState) -> Any:
        return eqx_filter.filter(state, self._is_buffer, inverse=True)
