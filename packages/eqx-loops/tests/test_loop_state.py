"""What kinds of loops are made of."""

import re

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

import eqx_core
import eqx_filter
import eqx_loops._loop_state

LoopState = eqx_loops._loop_state.LoopState
held_fixed = eqx_loops._loop_state.held_fixed
prepare = eqx_loops._loop_state.prepare


def count(cond=lambda x: x < 3, *, max_steps=None):
    return prepare(cond, lambda x: x + 1, 0, max_steps=max_steps, buffers=None)


def test_a_state_counts_its_steps_and_remembers_the_predicate():
    loop = count()
    states = [loop.state]
    while loop.cond(states[-1]):
        states.append(loop.body(states[-1]))
    assert [tuple(map(int, state)) for state in states] == [(0, 1, 1, 0), (1, 1, 1, 1), (2, 1, 1, 2), (3, 0, 1, 3)]
    assert LoopState._fields == ("step", "pred", "previous_pred", "value")
    assert int(loop.finish(states[-1].value)) == 3


def test_the_condition_looks_at_max_steps():
    loop = count(lambda x: True, max_steps=2)
    state = loop.body(loop.state)
    assert loop.cond(state)
    assert not loop.cond(loop.body(state))
    assert count(max_steps=10**30).cond(loop.state)


def test_the_body_keeps_every_type():
    loop = count()
    out = jax.eval_shape(loop.body, loop.state)
    assert jtu.tree_map(jax.typeof, loop.state) == jtu.tree_map(lambda x: jax.typeof(jnp.zeros(x.shape, x.dtype)), out)
    with jax.enable_x64(True):
        loop = count()
        assert loop.body(loop.state).step.dtype == loop.state.step.dtype == jnp.int64


def test_in_a_batch_the_condition_is_not_batched_and_what_has_finished_is_frozen():
    def steps(limit):
        loop = count(lambda x: x < limit)
        state = loop.body(loop.body(loop.state))
        assert jax.typeof(loop.cond(state)).shape == ()
        return state, jax.lax.cond(loop.cond(state), lambda: 1, lambda: 0)

    jaxpr = jax.make_jaxpr(jax.vmap(steps))(jnp.array([1, 2, 3]))
    assert any(eqn.primitive.name == "cond" for eqn in jaxpr.eqns)
    state, goes_on = jax.vmap(steps, out_axes=(LoopState(None, 0, 0, 0), None))(jnp.array([1, 2, 3]))
    assert goes_on == 1
    assert [x.tolist() for x in state] == [2, [False, False, True], [False, True, True], [1, 2, 2]]


def test_without_a_batch_nothing_is_selected():
    def run(x):
        loop = prepare(lambda x: jnp.all(x < 3), lambda x: x + 1, x, max_steps=9, buffers=None)
        return jax.lax.while_loop(loop.cond, loop.body, loop.state)

    x = jnp.zeros(5)
    assert "select" not in jax.jit(run).lower(x).as_text()
    assert "select" in jax.jit(jax.vmap(run)).lower(x[None]).as_text()


def test_which_leaves_are_buffers():
    loop = prepare(
        lambda c: c[0] < 3,
        lambda c: (c[0] + 1, c[1].at[c[0]].set(1.0)),
        (0, jnp.zeros(3)),
        max_steps=3,
        buffers=lambda c: c[1],
    )
    assert loop.is_buffer == loop.is_own_buffer == LoopState(False, False, False, (False, True))
    assert jtu.tree_structure(loop.is_buffer) == jtu.tree_structure(loop.state)
    assert eqx_core.tree_equal(loop.body(loop.state).value, (jnp.array(1), jnp.array([1.0, 0.0, 0.0])))


def test_the_condition_hides_what_it_closes_over_from_derivatives():
    def f(x, y):
        def guarded(value):
            return eqx_filter.internal.nondifferentiable((value, x))[0] < x

        loop = prepare(guarded, lambda value: value * x, y, max_steps=None, buffers=None)
        return loop.body(loop.state).value

    assert jax.jvp(f, (3.0, 2.0), (1.0, 1.0))[1] == 5.0


@pytest.mark.parametrize(
    ("bad", "shown"), [(lambda x: x, "i32[]"), (lambda x: jnp.array([True]), "bool[1]"), (str, "'")]
)
def test_a_condition_that_is_no_bool_is_an_error(bad, shown):
    text = re.escape("`while_loop(cond_fun=...)` must return `bool[]`; got `") + re.escape(shown)
    with pytest.raises(ValueError, match=text):
        count(bad)


def test_held_fixed_keeps_all_but_derivatives():
    tree = {"x": 2.0, "f": jnp.sin, "n": jnp.array(1), "w": jnp.array(1.5)}
    assert eqx_core.tree_equal(held_fixed(tree), tree)
    assert jax.grad(lambda x: x * held_fixed(x))(jnp.array(3.0)) == 3.0
