"""Find out what of a loop is differentiated at all: `perturbed_state`, `needed_cotangents`.

What one step does not perturb another one may, through what it carries. So both questions are answered by repeating an
abstract step, which computes nothing, until the answer stays the same. A body may hold operations that refuse to be
differentiated; therefore nothing is differentiated that need not be.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.custom_derivatives import SymbolicZero

import eqx_filter

from ._loop_state import LoopState

# A function from a state to the next, as a Module whose leaves are the arrays that it closes over.
Body = Callable[[LoopState], LoopState]


def are_given(tree: Any, values: Any) -> Any:
    """Return `tree` with, for each leaf, whether `values` has something other than None in its place."""
    return jtu.tree_map(lambda _, value: value is not None, tree, values)


def perturbed_state(body: Body, state: LoopState, body_moves: Any, state_moves: Any) -> Any:
    """Tell which parts of the state have a tangent after some number of steps.

    Args:
      body: One step.
      state: The first state.
      body_moves: Bools in the structure of `body`: which of its arrays have a tangent.
      state_moves: Bools in the structure of `state`: which of its arrays have one before the first step.

    Returns:
      Bools in the structure of `state`.
    """

    def after_a_step(state_moves: Any) -> Any:
        def push_forward(body: Body, state: LoopState) -> Any:
            primals = body, state
            tangents = jtu.tree_map(lambda moves, x: jnp.zeros_like(x) if moves else None, moving, primals)
            return eqx_filter.filter_jvp(lambda body, state: body(state), primals, tangents)[1]

        moving = body_moves, state_moves
        return are_given(state, eqx_filter.filter_eval_shape(push_forward, body, state))

    return _fixed_point(after_a_step, state_moves)


def needed_cotangents(body: Body, state: LoopState, moves: tuple[Any, Any], given: Any) -> tuple[tuple[Any, Any], bool]:
    """Tell for which arrays a cotangent has to be computed, and whether a step prints or does anything else of the kind.

    Args:
      body: One step.
      state: A state.
      moves: Bools in the structure of `(body, state)`: which arrays have a tangent.
      given: Bools in the structure of `state`: what of the last state has a cotangent. It is True only where `moves` is.

    Returns:
      Bools in the structure of `(body, state)`, and whether there are side effects.
    """
    leaves, treedef = jtu.tree_flatten(moves)
    places = [i for i, moving in enumerate(leaves) if moving]
    effects: set[Any] = set()

    def before_a_step(needed: tuple[Any, Any]) -> tuple[Any, Any]:
        reached: set[int] = set()

        def watch(moving: Any) -> Any:
            arrays, treedef = jtu.tree_flatten(moving)
            return treedef.unflatten([_watched(x, i, reached) for x, i in zip(arrays, places, strict=True)])

        def pull_back(body: Body, state: LoopState) -> None:
            state, pull = linearised(body, state, moves, needed[1], watch)
            # Of the cotangents only the types count.
            pull(eqx_filter.filter(state, needed[1]))

        jaxpr, _, _ = eqx_filter.filter_make_jaxpr(pull_back)(body, state)
        effects.update(jaxpr.effects)
        return treedef.unflatten([i in reached for i in range(len(leaves))])

    nothing = jtu.tree_map(lambda _: False, moves[0])
    return _fixed_point(before_a_step, (nothing, given)), bool(effects)


def linearised(
    body: Body,
    state: LoopState,
    moves: tuple[Any, Any],
    wanted: Any,
    watch: Callable[[Any], Any] = lambda moving: moving,
) -> tuple[LoopState, Callable[[Any], Any]]:
    """Take a step, and prepare to go back over it.

    Args:
      body: One step.
      state: The state before it.
      moves: Bools in the structure of `(body, state)`: with respect to what to differentiate.
      wanted: Bools in the structure of `state`: what of the next state has a cotangent.
      watch: An identity through which all that moves is passed.

    Returns:
      The next state, and a function from the cotangent of it to that of `(body, state)`, as the only element of a tuple.
      Both have None where there is nothing.
    """
    moving, fixed = eqx_filter.partition((body, state), moves)

    def of_moving(moving: Any) -> tuple[Any, Any]:
        body, state = eqx_filter.combine(watch(moving), fixed)
        return eqx_filter.partition(body(state), wanted)

    out, pull, rest = jax.vjp(of_moving, moving, has_aux=True)
    return eqx_filter.combine(out, rest), pull


def _fixed_point(grow: Callable[[Any], Any], flags: Any) -> Any:
    """Return the least flags that include the given ones and all that `grow` adds to them."""
    while True:
        grown = jtu.tree_map(lambda old, new: old or new, flags, grow(flags))
        if jtu.tree_leaves(grown) == jtu.tree_leaves(flags):
            return flags
        flags = grown


def _watched(x: jax.Array, place: int, reached: set[int]) -> jax.Array:
    """Return `x`. If it gets a cotangent that may be other than zero, its place is noted."""

    @jax.custom_vjp
    def identity(x: jax.Array) -> jax.Array:
        return x

    def pull_back(_: None, cotangent: Any) -> Any:
        if type(cotangent) is not SymbolicZero:
            reached.add(place)
        return (cotangent,)

    identity.defvjp(lambda x: (x.value, None), pull_back, symbolic_zeros=True)
    return identity(x)
