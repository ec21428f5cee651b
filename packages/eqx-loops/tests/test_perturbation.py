"""What of a loop is differentiated: found out by abstract steps, and no more than need be."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

import eqx_filter
import eqx_loops._loop_state
import eqx_loops._perturbation
from eqx_filter.internal import nondifferentiable, nondifferentiable_backward

_loop_state, _perturbation = eqx_loops._loop_state, eqx_loops._perturbation


def prepared(body_fun, *value):
    """Return a step of a loop over a tuple, with what it closes over as leaves, and the first state."""
    loop = _loop_state.prepare(lambda value: True, body_fun, value, max_steps=None, buffers=None)
    return eqx_filter.filter_closure_convert(loop.body, loop.state), loop.state


def flags(state, *value):
    return _loop_state.LoopState(False, False, False, value)


def nothing(tree):
    return jtu.tree_map(lambda _: False, tree)


def those(body, *arrays):
    """Return which of the leaves are these very arrays."""
    return jtu.tree_map(lambda leaf: any(leaf is x for x in arrays), body)


def perturbed(body, state, *value, closed_over=()):
    out = _perturbation.perturbed_state(body, state, those(body, *closed_over), flags(state, *value))
    assert not any(out[:3])
    return out.value


def needed(body, state, moves, *given):
    moves = nothing(body), flags(state, *moves)
    (body_flags, state_flags), effects = _perturbation.needed_cotangents(body, state, moves, flags(state, *given))
    assert not any(jtu.tree_leaves(body_flags))
    assert not effects
    return state_flags.value


def shift(value):
    a, b, _, n = value
    return jax.lax.stop_gradient(a) + 1, jnp.sin(a), b * 2, n + 1


def test_a_perturbation_reaches_what_some_later_step_makes_of_it():
    body, state = prepared(shift, 1.0, 2.0, 3.0, 0)
    assert perturbed(body, state, True, False, False, False) == (True, True, True, False)
    assert perturbed(body, state, False, True, False, False) == (False, True, True, False)
    assert perturbed(body, state, False, False, True, False) == (False, False, True, False)
    assert perturbed(body, state, False, False, False, False) == (False, False, False, False)


def test_a_cotangent_is_needed_where_some_earlier_step_got_it_from():
    body, state = prepared(shift, 1.0, 2.0, 3.0, 0)
    moves = True, True, True, False
    assert needed(body, state, moves, False, False, True, False) == (True, True, True, False)
    assert needed(body, state, moves, False, True, False, False) == (True, True, False, False)
    assert needed(body, state, moves, True, False, False, False) == (True, False, False, False)
    assert needed(body, state, (False, True, True, False), False, False, True, False) == (False, True, True, False)


def test_what_is_closed_over_perturbs_and_needs_cotangents():
    w, v = jnp.array(2.0), jnp.array(3.0)
    body, state = prepared(lambda value: (value[0] + w * jax.lax.stop_gradient(v), value[1] * 2), 1.0, 2.0)
    assert perturbed(body, state, False, False, closed_over=[w]) == (True, False)
    assert perturbed(body, state, False, True, closed_over=[v]) == (False, True)
    moves = those(body, w, v), flags(state, True, True)
    (body_flags, state_flags), _ = _perturbation.needed_cotangents(body, state, moves, flags(state, True, False))
    assert jtu.tree_leaves(body_flags) == jtu.tree_leaves(those(body, w))
    assert sum(jtu.tree_leaves(body_flags)) == 1
    assert state_flags.value == (True, False)


def test_what_is_not_needed_may_refuse_to_be_differentiated():
    def step(value):
        a, b, c = value
        return jnp.sin(a), nondifferentiable(b) * 2, nondifferentiable_backward(c) * a

    body, state = prepared(step, 1.0, 2.0, 3.0)
    assert perturbed(body, state, True, False, False) == (True, False, True)
    assert needed(body, state, (True, False, True), True, False, False) == (True, False, False)
    with pytest.raises(RuntimeError, match="Unexpected tangent"):
        perturbed(body, state, False, True, False)
    with pytest.raises(RuntimeError, match="Unexpected cotangent"):
        needed(body, state, (True, False, True), False, False, True)


def test_it_computes_nothing():
    ran = []

    def step(value):
        jax.debug.callback(lambda x: ran.append(x), value[0])
        return (jnp.sin(value[0]),)

    body, state = prepared(step, 1.0)
    ran.clear()
    assert perturbed(body, state, True) == (True,)
    moves = nothing(body), flags(state, True)
    (_, state_flags), effects = _perturbation.needed_cotangents(body, state, moves, flags(state, True))
    assert state_flags.value == (True,)
    assert effects
    jax.effects_barrier()
    assert ran == []


def test_effects_of_the_pullback_alone_are_noticed():
    @jax.custom_vjp
    def tell(x):
        return x

    tell.defvjp(lambda x: (x, None), lambda _, bar: (jax.debug.callback(lambda: None), (bar,))[1])
    body, state = prepared(lambda value: (tell(value[0]),), 1.0)
    moves = nothing(body), flags(state, True)
    assert _perturbation.needed_cotangents(body, state, moves, flags(state, True))[1]


def test_a_linearised_step_has_the_derivative_of_the_step():
    w = jnp.array(2.0)
    body, state = prepared(lambda value: (value[0] * w, value[1] + 1), 3.0, 0)
    moves = those(body, w), flags(state, True, False)
    after, pull = _perturbation.linearised(body, state, moves, flags(state, True, False))
    assert jtu.tree_map(float, after.value) == (6.0, 1.0)
    bar = _loop_state.LoopState(None, None, None, (jnp.array(1.0), None))
    ((body_bar, state_bar),) = pull(bar)
    assert jtu.tree_leaves(body_bar) == [3.0]
    assert jtu.tree_leaves(state_bar) == [2.0]
