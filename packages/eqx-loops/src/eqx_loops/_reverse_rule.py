"""Give a loop its own way back: `with_reverse_rule`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core
import eqx_filter
from eqx_filter.internal import (
    create_vprim,
    filter_primitive_bind,
    filter_primitive_def,
    filter_primitive_jvp,
    filter_primitive_transpose,
    materialise_zeros,
    register_impl_finalisation,
)

from ._loop_state import Loop, LoopState
from ._perturbation import Body, are_given, needed_cotangents, perturbed_state

Moves = tuple[Any, Any]
"""Bools in the structure of `(body, state)`: which arrays have a tangent."""
_Condition = Callable[[LoopState], Any]


def with_reverse_rule(
    loop: Loop,
    forward: Callable[[_Condition, Body, LoopState, Moves], tuple[LoopState, Any]],
    backward: Callable[[Any, Any, Body, LoopState, Moves], tuple[Any, Any]],
    *,
    needs_all: bool = False,
) -> LoopState:
    """Return the last state of a loop, which in reverse mode is differentiated by these rules.

    Outside of differentiation it is one `jax.lax.while_loop`, and forward mode pushes through that. What is not perturbed
    by what is being differentiated has no tangent afterwards.

    Args:
      loop: The loop.
      forward: The rule of the forward pass, called as `forward(cond, body, state, moves)`. It returns the last state, and
        what it has kept for the way back: a PyTree of arrays.
      backward: The rule of the backward pass, called as `backward(kept, cotangent, body, state, needed)`. `needed` says
        of which arrays of `(body, state)` a cotangent is needed, and `cotangent` has that of the last state for these,
        zeros included. It returns the cotangents of `(body, state)`.
      needs_all: Whether `needed` is to be `moves`, because the forward pass goes by that.
    """
    # What the functions close over has to be an argument, to be seen by the rules.
    cond, body = (eqx_filter.filter_closure_convert(fun, loop.state) for fun in (loop.cond, loop.body))
    run = eqx_filter.filter_custom_jvp(_run)

    @run.def_jvp
    def run_jvp(primals: Any, tangents: Any) -> Any:
        (cond, body, state), (_, *given) = primals, tangents
        body_moves, state_moves = are_given((body, state), tuple(given))
        moves = body_moves, perturbed_state(body, state, body_moves, state_moves)
        last, kept = forward(cond, body, state, moves)
        push = _Push(cond, body, state, kept, _Rule(backward, moves, needs_all))
        return last, filter_primitive_bind(push_p, push, tuple(given))

    return run(cond, body, loop.state)


def _run(cond: _Condition, body: Body, state: LoopState) -> LoopState:
    # JAX's caches hash what they are given, and a Module that holds traced arrays has no hash.
    return jax.lax.while_loop(lambda state: cond(state), lambda state: body(state), state)


class _Rule:
    """What `with_reverse_rule` is told, as one value that is equal only to itself."""

    def __init__(self, backward: Callable[..., Any], moves: Moves, needs_all: bool):
        self.backward, self.moves, self.needs_all = backward, moves, needs_all


class _Push(NamedTuple):
    """The linear function from the tangents of `(body, state)` to that of the last state.

    Attributes:
      cond: The condition of the loop.
      body: Its step.
      state: Its first state.
      kept: What the forward pass has kept.
      rule: What to do in the backward pass.
    """

    cond: _Condition
    body: Body
    state: LoopState
    kept: Any
    rule: _Rule


def _pushed(push: _Push, tangents: Any) -> Any:
    """Return the tangent of the last state, by forward mode: what was kept is of no use to that."""
    push = _strong_arrays(push)
    given = push.body, push.state
    _, tangent = eqx_filter.filter_jvp(lambda body, state: _run(push.cond, body, state), given, tangents)
    return _materialised(tangent, push.state, push.rule.moves[1])


@filter_primitive_def
def _abstract_eval(push: _Push, tangents: Any) -> Any:
    return eqx_filter.filter(push.state, push.rule.moves[1])


@filter_primitive_jvp
def _jvp(primals: Any, tangents: Any) -> Any:
    push_dot, given_dot = tangents
    if jtu.tree_leaves(push_dot):
        return eqx_filter.filter_jvp(_pushed, primals, tangents)
    push, given = primals
    given_dot = jtu.tree_map(materialise_zeros, given, given_dot)
    return filter_primitive_bind(push_p, push, given), filter_primitive_bind(push_p, push, given_dot)


@filter_primitive_transpose
def _transpose(inputs: Any, cotangent: Any) -> Any:
    push, tangents = _strong_arrays(inputs[0]), inputs[1]
    moves, asked = push.rule.moves, are_given((push.body, push.state), tangents)
    given = are_given(push.state, cotangent)
    if not any(jtu.tree_leaves(given)):
        return None, None
    needed = moves if push.rule.needs_all else needed_cotangents(push.body, push.state, moves, given)[0]
    cotangent = _materialised(cotangent, push.state, needed[1])
    bars = push.rule.backward(push.kept, cotangent, push.body, push.state, needed)
    # Some of the state has a tangent only after the first step.
    return None, eqx_filter.filter(bars, asked)


def _strong_arrays(push: _Push) -> _Push:
    """Return the same with arrays for the numbers that JAX has made of constants among its arrays."""

    def strong(leaf: Any) -> Any:
        if eqx_core.is_array(leaf) or not eqx_core.is_array_like(leaf):
            return leaf
        array = jnp.asarray(leaf)
        return jax.lax.convert_element_type(array, array.dtype)

    return jtu.tree_map(strong, push)


def _materialised(tree: Any, state: LoopState, wanted: Any) -> Any:
    """Return the tree with zeros where it has None and something is wanted."""
    zeros = jtu.tree_map(lambda x, wanted: jnp.zeros_like(x) if wanted else None, state, wanted)
    return eqx_filter.combine(eqx_filter.filter(tree, wanted), zeros)


push_p = create_vprim("push_through_loop", filter_primitive_def(_pushed), _abstract_eval, _jvp, _transpose)
register_impl_finalisation(push_p)
