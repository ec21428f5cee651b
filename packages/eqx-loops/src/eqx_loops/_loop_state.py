"""What every kind of loop is made of: a state, a condition and a step, which `prepare` makes of the user's arguments.

A kind sees no user function, no buffer and no predicate of a batch. It gets a `Loop` and

- steps while `loop.cond(state)`, a `bool[]` that is never batched, by `state = loop.body(state)`, from `loop.state` on;
- returns `loop.finish(state)`.

Both are functions made for this one call, so that JAX's caches, which go by identity, never mistake one for another.
They close over whatever the user's functions do; to see that, use `eqx_filter.filter_closure_convert(loop.body,
loop.state)`. Elements of a batch that have finished are frozen by `loop.body`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core
import eqx_filter
from eqx_filter.internal import unvmap_any

from ._loop_carry import Carry
from ._select_if_vmap import select_if_vmap


class LoopState(NamedTuple):
    """What a loop carries from step to step.

    Attributes:
      step: `int[]`, the number of steps taken. Never batched.
      pred: `bool[]`, whether `cond_fun` allows another step. Batched if the loop is.
      previous_pred: `bool[]`, whether the last step has been one of this element, and not one in which it was frozen.
      value: The user's carry: strongly typed arrays in the structure of `init_val`. In the place of a buffer there is
        its plain array.
    """

    step: Any
    pred: Any
    previous_pred: Any
    value: Any


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop, ready to be run by any kind.

    Attributes:
      cond: A function from a `LoopState` to `bool[]`, never batched: whether some element of the batch takes a step,
        and `max_steps` has not been reached.
      body: A function from a `LoopState` to the next. It must not be called when `cond` is false: what that returns is
        not what it got.
      state: The first `LoopState`.
      is_buffer: A `LoopState` of bools, of the structure of `state`: which arrays are buffers. `body` writes each
        location of one at most once and reads only what is written, so their contents need not be kept for each step.
      is_own_buffer: The same without the buffers of loops around this one.
      finish: A function from the `value` of the last state to what `while_loop` returns.
    """

    cond: Callable[[LoopState], jax.Array]
    body: Callable[[LoopState], LoopState]
    state: LoopState
    is_buffer: LoopState
    is_own_buffer: LoopState
    finish: Callable[[Any], Any]


def prepare(
    cond_fun: Callable[[Any], Any],
    body_fun: Callable[[Any], Any],
    init_val: Any,
    *,
    max_steps: int | None,
    buffers: Callable[[Any], Any] | None,
) -> Loop:
    """Return the loop that the user's arguments describe; see `while_loop` for what they are.

    Raises:
      TypeError: A leaf of `init_val` is nothing that JAX could make an array of.
      ValueError: `buffers` picks out what is no array of `init_val`, or `cond_fun` returns something else than a bool.
        When `body` is called: `body_fun` returns something else than a carry like the one that it got.
    """
    carry = Carry(init_val, buffers)
    predicate = _predicate(cond_fun, carry)

    def body(state: LoopState) -> LoopState:
        __tracebackhide__ = True
        given = carry.wrap(state.value, state.pred)
        returned = carry.unwrap(given, body_fun(given))
        value = jtu.tree_map(
            # A buffer is frozen when it is written to: to select from it would copy it.
            lambda is_buffer, new, old: new if is_buffer else select_if_vmap(state.pred, new, old),
            carry.is_buffer,
            returned,
            state.value,
        )
        return LoopState(state.step + 1, predicate(value), state.pred, value)

    def cond(state: LoopState) -> jax.Array:
        # Not `state.pred`: without a batch nothing else needs that, and XLA leaves it out of the loop.
        go_on = unvmap_any(predicate(state.value))
        return go_on if max_steps is None else go_on & (state.step < min(max_steps, jnp.iinfo(state.step.dtype).max))

    state = LoopState(_strong_zero(), predicate(carry.value), jnp.asarray(True), carry.value)
    is_buffer, is_own_buffer = (LoopState(False, False, False, mask) for mask in (carry.is_buffer, carry.is_own_buffer))
    return Loop(cond, body, state, is_buffer, is_own_buffer, carry.finish)


def _strong_zero() -> jax.Array:
    return jnp.zeros((), jax.dtypes.canonicalize_dtype("int64"))


def _predicate(cond_fun: Callable[[Any], Any], carry: Carry) -> Callable[[Any], jax.Array]:
    """Return `cond_fun` as a function from the value of a state, which no derivative gets to see."""

    def predicate(value: Any) -> jax.Array:
        __tracebackhide__ = True
        allows = cond_fun(carry.wrap(value, jnp.asarray(True)))
        pred = jnp.asarray(allows) if eqx_core.is_array_like(allows) else None
        if pred is None or pred.shape != () or pred.dtype != bool:
            raise ValueError(
                f"`while_loop(cond_fun=...)` must return `bool[]`; got `{eqx_core.tree_pformat(allows)}`. Reduce it by "
                f"`jnp.any` or `jnp.all`, or compare it with something."
            )
        return pred

    # As arguments its arrays can be held fixed, which in a closure they could not.
    converted = held_fixed(eqx_filter.filter_closure_convert(predicate, carry.value))
    # Of a constant the jaxpr returns a Python bool.
    return lambda value: jnp.asarray(converted(held_fixed(value)))


def held_fixed(tree: Any) -> Any:
    """Return the tree with its arrays as constants to any derivative."""
    return jtu.tree_map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx_core.is_inexact_array(leaf) else leaf, tree)
