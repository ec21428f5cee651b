"""A step is pulled back from what it has left behind: no more than has to be kept of each step."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_filter
import eqx_loops._linear_step
import eqx_loops._loop_state

LoopState = eqx_loops._loop_state.LoopState
W = jnp.array([[0.5, -0.25], [1.0, 0.75]])


def linear_step(step, value, is_buffer, needed_value, needed_consts=None):
    """Return a body that closes over `W`, a state, and the step, linearised."""
    state = LoopState(jnp.zeros((), int), jnp.array(True), jnp.array(True), value)
    nothing = LoopState(False, False, False, None)
    body = eqx_filter.filter_closure_convert(lambda state: state._replace(value=step(state.value)), state)
    consts = jtu.tree_map(lambda x: needed_consts is None and eqx_filter.is_inexact_array(x), body)
    needed = consts, nothing._replace(value=needed_value)
    linear = eqx_loops._linear_step.LinearStep(body, state, nothing._replace(value=is_buffer), needed)
    return body, state, linear


def cotangent(value):
    return LoopState(None, None, None, value)


def test_the_pullback_is_that_of_jax():
    step = lambda y: jnp.tanh(jnp.exp(W) @ y) + y  # noqa: E731
    body, state, linear = linear_step(step, jnp.array([0.3, -1.0]), False, True)
    after, kept = linear.record(body, state)
    np.testing.assert_allclose(after.value, step(state.value))
    body_bar, state_bar = linear.pull(linear.invariants(body, state), kept, state, cotangent(jnp.array([1.0, 2.0])))
    expected_w, expected_y = jax.vjp(lambda w, y: jnp.tanh(jnp.exp(w) @ y) + y, W, state.value)[1](
        jnp.array([1.0, 2.0])
    )
    np.testing.assert_allclose(state_bar.value, expected_y, rtol=1e-6)
    (body_bar,) = [x for x in body_bar.consts if x is not None]
    np.testing.assert_allclose(body_bar, expected_w, rtol=1e-6)


def test_what_does_not_depend_on_the_state_is_not_kept():
    body, state, linear = linear_step(lambda y: jnp.tanh(jnp.exp(W) @ y), jnp.ones(2), False, True)
    assert all(x.shape != W.shape for x in linear.kept)
    assert any(x.shape == W.shape for x in linear.invariants(body, state))


def test_buffers_are_not_kept():
    def step(value):
        y, ys = value
        return jnp.sin(y * ys[0].sum()), ys.at[1].set(y)

    _, _, linear = linear_step(step, (jnp.ones(3), jnp.ones((100, 3))), (False, True), (True, True))
    assert max(x.size for x in linear.kept) <= 3


def test_only_what_is_needed_is_pulled():
    step = lambda value: (jnp.sin(value[0]), jnp.cos(value[1]) * value[0])  # noqa: E731
    body, state, linear = linear_step(step, (jnp.ones(2), jnp.ones(2)), (False, False), (True, False), ())
    _, kept = linear.record(body, state)
    assert len(kept) == 1
    _, bars = linear.pull(linear.invariants(body, state), kept, state, cotangent((jnp.ones(2), None)))
    assert bars.value[1] is None
    np.testing.assert_allclose(bars.value[0], np.cos(np.ones(2)), rtol=1e-6)


@pytest.mark.parametrize("transform", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_steps_that_print_print_once(capsys, transform):
    def step(y):
        jax.debug.print("stepped")
        return jnp.sin(y)

    body, state, linear = linear_step(step, jnp.ones(2), False, True, ())

    def run(state):
        invariants = linear.invariants(body, state)
        after, kept = linear.record(body, state)
        return after, linear.pull(invariants, kept, state, cotangent(jnp.ones(2)))[1].value

    jax.block_until_ready(transform(run)(state))
    jax.effects_barrier()
    assert capsys.readouterr().out == "stepped\n"
