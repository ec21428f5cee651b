"""The loop that keeps a fixed number of carries, however long it is, to be differentiated: `checkpointed_while_loop`.

The carry before each step is needed again, in reverse order. `_forward_controller` chooses which of them to keep on the
way, `_backward_controller` how to get from these to the others, and `_perturbation` finds out what is differentiated.
"""

import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_filter

from ._backward_controller import Way, is_under_way, load, next_stop, stop
from ._forward_controller import choose_slot, default_checkpoints, first_saves
from ._loop_state import Loop, LoopState
from ._perturbation import Body, are_given, linearised, needed_cotangents, perturbed_state
from ._slots import new_slots, read_slot, write_slot, write_slot_if


def checkpointed_while_loop(loop: Loop, max_steps: int | None, checkpoints: int | None) -> LoopState:
    """Return the last state of a loop.

    On its own it is one `jax.lax.while_loop`.

    Args:
      loop: The loop.
      max_steps: The most steps it takes, at least 1, or None.
      checkpoints: How many carries to keep, at least 1; by default as many as it takes to compute no step more than
        three times.
    """
    number: Any = checkpoints
    if max_steps is not None:
        number = min(checkpoints or default_checkpoints(max_steps), max_steps)
    # What these close over has to be an argument, to be seen by the rules.
    cond = eqx_filter.filter_closure_convert(loop.cond, loop.state)
    body = eqx_filter.filter_closure_convert(loop.body, loop.state)
    last = _with_reverse_mode(loop.is_buffer, max_steps, number)((cond, body, loop.state))
    return _without_needless_tangents(last, body, loop.state)


@eqx_filter.filter_custom_jvp
def _without_needless_tangents(last: LoopState, body: Body, state: LoopState) -> LoopState:
    """Return `last`, without a tangent where `body` and `state` perturb nothing: a custom rule gives one to everything."""
    return last


@_without_needless_tangents.def_jvp
def _(primals: Any, tangents: Any) -> Any:
    last, body, state = primals
    last_dot, *others = tangents
    perturbed = perturbed_state(body, state, *are_given((body, state), tuple(others)))
    _tell_tests("stop_gradient_perturb_val", perturbed)
    return last, eqx_filter.filter(last_dot, perturbed)


class _Kept(NamedTuple):
    """What the backward pass has to go by.

    Attributes:
      last: The last state.
      taken: `int[]`, how many steps this element of the batch has taken.
      steps: `int[checkpoints]`, the step that each slot is for; None if each step has its own.
      slots: What a state carries, with a leading axis for the slots. None for buffers, whose last contents do for each step.
    """

    last: LoopState
    taken: Any
    steps: Any
    slots: Any


def _with_reverse_mode(is_buffer: LoopState, max_steps: int | None, number: int) -> Callable[[Any], LoopState]:
    """Return the loop as a function of `(cond, body, state)` with a derivative of its own."""
    keep = jtu.tree_map(lambda is_buffer: not is_buffer, is_buffer.value)

    @eqx_filter.filter_custom_vjp
    def run(parts: Any) -> LoopState:
        cond, body, state = parts
        # JAX's caches hash what they are given, and a Module that holds traced arrays has no hash.
        return jax.lax.while_loop(lambda state: cond(state), lambda state: body(state), state)

    @run.def_fwd
    def forward(perturbed: Any, parts: Any) -> tuple[LoopState, _Kept]:
        kept = _keep_all(keep, number, *parts) if number == max_steps else _keep_some(keep, number, max_steps, *parts)
        return kept.last, kept

    @run.def_bwd
    def backward(kept: _Kept, cotangent: Any, perturbed: Any, parts: Any) -> Any:
        _, body, state = parts
        nothing = jtu.tree_map(lambda _: None, parts)
        moves = perturbed[1], perturbed_state(body, state, *perturbed[1:])
        cotangent = eqx_filter.filter(cotangent, moves[1])
        given = are_given(state, cotangent)
        if not any(jtu.tree_leaves(given)):
            return nothing
        needed, prints = needed_cotangents(body, state, moves, given)
        _tell_tests("perturb_val", moves[1])
        _tell_tests("symbolic_zero_gradient", jtu.tree_map(lambda needed: not needed, needed[1]))
        cotangent = eqx_filter.combine(cotangent, _zeros(state, needed[1]))
        go_back = _go_back_to_each if number == max_steps else _go_back
        return nothing[0], *go_back(body, kept, needed, prints, cotangent)

    return run


def _keep_all(keep: Any, number: int, cond: Any, body: Body, state: LoopState) -> _Kept:
    """Run a loop of at most `number` steps, and keep what is carried to each."""

    def step(carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        state, taken, slots = carry
        slots = write_slot(slots, state.step, eqx_filter.filter(state.value, keep))
        return body(state), taken + state.pred.astype(taken.dtype), slots

    first = state, state.step, new_slots(eqx_filter.filter(state.value, keep), number)
    last, taken, slots = jax.lax.while_loop(lambda carry: cond(carry[0]), step, first)
    return _Kept(last, taken, None, slots)


def _keep_some(keep: Any, number: int, max_steps: int | None, cond: Any, body: Body, state: LoopState) -> _Kept:
    """Run a loop, and keep what is carried to the steps that the forward controller chooses."""

    def step(carry: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
        state, taken, saves, slots = carry
        saved, slot, saves = choose_slot(saves, state.step)
        slots = write_slot_if(saved, slots, slot, eqx_filter.filter(state.value, keep))
        return body(state), taken + state.pred.astype(taken.dtype), saves, slots

    slots = new_slots(eqx_filter.filter(state.value, keep), number)
    first = state, state.step, first_saves(number, max_steps), slots
    last, taken, saves, slots = jax.lax.while_loop(lambda carry: cond(carry[0]), step, first)
    return _Kept(last, taken, saves.steps, slots)


def _go_back_to_each(body: Body, kept: _Kept, needed: tuple[Any, Any], prints: bool, cotangent: Any) -> tuple[Any, Any]:
    """Return the cotangent of `(body, state)` when what is carried to each step has been kept."""

    def over_a_step(carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        end, buffers, bars = carry
        state = _state(kept, end - 1, eqx_filter.combine(read_slot(kept.slots, end - 1), buffers))
        value, bars = _over(body, state, needed, prints, end, bars)
        return end - 1, _buffers(kept, value), bars

    first = kept.last.step, _buffers(kept, kept.last.value), (_zeros(body, needed[0]), cotangent)
    return jax.lax.while_loop(lambda carry: carry[0] > 0, over_a_step, first)[-1]


def _go_back(body: Body, kept: _Kept, needed: tuple[Any, Any], prints: bool, cotangent: Any) -> tuple[Any, Any]:
    """Return the cotangent of `(body, state)`, with the steps between those whose carries have been kept taken again."""
    number = kept.steps.size
    # Slots are addressed in the order of their steps; to put them in order would hold them twice.
    order = jnp.argsort(kept.steps).astype(kept.steps.dtype)

    def step_on(carry: tuple[Any, Any]) -> tuple[Any, Any]:
        step, value = carry
        # A rule of a custom derivative may return a value that differs in the last digit: the same one as below.
        state, _ = linearised(body, _state(kept, step, value), needed, needed[1])
        return step + 1, state.value

    def to_next_stop(carry: tuple[Way, Any, Any, Any]) -> tuple[Way, Any, Any, Any]:
        way, value, steps, slots = carry
        target = next_stop(way)
        step, value = jax.lax.while_loop(lambda carry: carry[0] < target, step_on, (way.step, value))
        saved, slot, way = stop(way._replace(step=step), number)
        steps = write_slot_if(saved, steps, slot, step)
        slots = write_slot_if(saved, slots, read_slot(order, slot), _all_but_buffers(kept, value))
        return way, value, steps, slots

    def over_a_step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        end, used, steps, slots, buffers, bars = carry
        way = load(read_slot(steps, used - 1), end, used, number)
        value = eqx_filter.combine(read_slot(slots, read_slot(order, used - 1)), buffers)
        there = jax.lax.while_loop(lambda carry: is_under_way(carry[0]), to_next_stop, (way, value, steps, slots))
        way, value, steps, slots = there
        value, bars = _over(body, _state(kept, way.step, value), needed, prints, end, bars)
        return end - 1, way.used, steps, slots, _buffers(kept, value), bars

    end, buffers, bars = kept.last.step, _buffers(kept, kept.last.value), (_zeros(body, needed[0]), cotangent)
    first = end, jnp.minimum(end, number), kept.steps[order], kept.slots, buffers, bars
    return jax.lax.while_loop(lambda carry: carry[0] > 0, over_a_step, first)[-1]


def _over(body: Body, state: LoopState, needed: tuple[Any, Any], prints: bool, end: Any, bars: Any) -> tuple[Any, Any]:
    """Take a step and go back over it.

    Returns:
      What is carried after it, and the cotangents before it, given those after it: of the body, to which each step adds,
      and of the state.
    """
    state, pull = linearised(body, state, needed, needed[1])

    def pulled(body_bar: Any, state_bar: Any) -> tuple[Any, Any]:
        ((more, state_bar),) = pull(state_bar)
        return jtu.tree_map(jnp.add, body_bar, more), state_bar

    if not prints:
        return state.value, pulled(*bars)
    # The compiler does not mind which print comes first, except that those of a branch cannot precede the branching.
    return state.value, jax.lax.cond(end > 0, pulled, lambda *bars: bars, *bars)


def _state(kept: _Kept, step: Any, value: Any) -> LoopState:
    return LoopState(step, step < kept.taken, step <= kept.taken, value)


def _zeros(tree: Any, where: Any) -> Any:
    return jtu.tree_map(lambda x, needed: jnp.zeros_like(x) if needed else None, tree, where)


def _all_but_buffers(kept: _Kept, value: Any) -> Any:
    return eqx_filter.filter(value, are_given(value, kept.slots))


def _buffers(kept: _Kept, value: Any) -> Any:
    """Return the buffers, to be carried along. They keep their contents, but are written to, which must not copy them."""
    return eqx_filter.filter(value, are_given(value, kept.slots), inverse=True)


def _tell_tests(name: str, flags: LoopState) -> None:
    """Print the flags for test suites written for Equinox, which ask for it in this way."""
    if getattr(typing, "TESTING", False):
        print(name, tuple(flags))
