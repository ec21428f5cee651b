import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import eqx_core
import eqx_filter
from eqx_filter import filter_checkpoint, filter_grad

X = jnp.array([1.0, -0.5, 2.0])


class Block(eqx_core.Module):
    weight: jax.Array
    act: object
    times: int
    name: str = eqx_core.field(static=True)

    def __call__(self, x):
        return self.act(self.weight @ x) * self.times

    @filter_checkpoint
    def method(self, x):
        return self(x)

    @filter_checkpoint(policy=jax.checkpoint_policies.everything_saveable)
    def with_policy(self, x):
        return self(x)


def block(seed=0, act=jnp.tanh):
    return Block(jr.normal(jr.key(seed), (3, 3)), act, 2, "block")


def jaxpr_of(fn, *args):
    return str(jax.make_jaxpr(fn)(*args))


@settings(max_examples=20)
@given(st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3))
def test_it_changes_no_value_and_no_gradient(values):
    x = jnp.array(values, jnp.float32)

    def fun(x):
        return jnp.sum(jnp.sin(jnp.sin(x)))

    assert jnp.array_equal(filter_checkpoint(fun)(x), fun(x))
    np.testing.assert_allclose(jax.grad(filter_checkpoint(fun))(x), jax.grad(fun)(x), rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(filter_checkpoint(fun), (x,), (x,)), jax.jvp(fun, (x,), (x,)), rtol=1e-6)


def test_models_are_differentiated():
    model = block()
    got = filter_grad(lambda m: jnp.sum(filter_checkpoint(m)(X)))(model)
    expected = filter_grad(lambda m: jnp.sum(m(X)))(model)
    np.testing.assert_allclose(got.weight, expected.weight, rtol=1e-6)
    assert (got.act, got.times) == (None, None)


def test_it_computes_the_intermediates_anew():
    def fun(x):
        return jnp.sum(jnp.sin(jnp.sin(jnp.sin(x))))

    assert jaxpr_of(jax.grad(filter_checkpoint(fun)), X).count(" sin ") > jaxpr_of(jax.grad(fun), X).count(" sin ")


@pytest.mark.parametrize("prevent_cse", [True, False])
def test_the_options_reach_jax(prevent_cse):
    policy = jax.checkpoint_policies.dots_saveable
    fun = filter_checkpoint(jnp.sin, prevent_cse=prevent_cse, policy=policy)
    (eqn,) = jax.make_jaxpr(fun)(X).eqns
    assert eqn.params["prevent_cse"] is prevent_cse
    assert eqn.params["policy"] is policy
    assert fun.policy is policy


@pytest.mark.parametrize("jit", [jax.jit, eqx_filter.filter_jit])
def test_it_nests_in_jit_vmap_and_grad(jit):
    model = block()

    def fun(x):
        return jnp.sum(filter_checkpoint(model)(x))

    expected = jax.grad(lambda x: jnp.sum(model(x)))(X)
    for grad in (jit(jax.grad(fun)), jax.grad(jit(fun)), jax.grad(filter_checkpoint(jit(fun))), filter_grad(fun)):
        np.testing.assert_allclose(grad(X), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(jax.grad(fun))(jnp.stack([X, X]))[1], expected, rtol=1e-5)
    twice = jax.hessian(fun)(X)
    np.testing.assert_allclose(twice, jax.hessian(lambda x: jnp.sum(model(x)))(X), rtol=1e-4, atol=1e-5)


def test_other_leaves_are_static_and_outputs_may_be_anything():
    seen = []

    @filter_checkpoint
    def fun(x, n, s, *, f, none):
        seen.append((n, s, f, none))
        return x * n, s, f, None, jnp.array(1), jr.key(0)

    out = fun(X, 3, "s", f=jnp.sin, none=None)
    assert seen == [(3, "s", jnp.sin, None)]
    assert out[0].tolist() == (X * 3).tolist()
    assert out[1:5] == ("s", jnp.sin, None, 1)


def test_statics_are_told_apart_by_type():
    fun = filter_checkpoint(lambda x, n: (x, type(n), repr(n)))
    for value in (1, 1.0, True, 0.0, -0.0, float("nan"), np.float32(1)):
        _, kind, text = fun(X, value)
        if not eqx_core.is_array(value):
            assert (kind, text) == (type(value), repr(value))


def test_blocks_that_differ_in_their_arrays_alone_are_traced_once():
    traces = []

    def act(x):
        traces.append(None)
        return jnp.tanh(x)

    @jax.jit
    def run(arrays, x):
        for weight in arrays:
            x = filter_checkpoint(Block(weight, act, 2, "block"))(x)
        return jnp.sum(x)

    jax.grad(run)([block(i).weight for i in range(4)], X)
    assert len(traces) == 1


def test_what_has_no_hash_is_looked_at_each_time():
    class Box:
        __hash__ = None

        def __init__(self, by):
            self.by = by

        def __eq__(self, other):
            return True

    fun = filter_checkpoint(lambda x, box: x * (sum(box) if isinstance(box, set) else box.by))
    box = Box(2.0)
    assert fun(jnp.array(1.0), box) == 2.0
    box.by = 3.0
    assert fun(jnp.array(1.0), box) == 3.0
    assert fun(jnp.array(1.0), {1, 2}) == 3.0


def test_it_works_as_a_method():
    model = block()
    np.testing.assert_allclose(model.method(X), model(X), rtol=1e-6)
    np.testing.assert_allclose(model.with_policy(X), model(X), rtol=1e-6)
    np.testing.assert_allclose(Block.method(model, X), model(X), rtol=1e-6)
    assert "remat" in jaxpr_of(model.method, X) or "checkpoint" in jaxpr_of(model.method, X)


def test_any_callable_will_do():
    model = block()
    for fun in (model, model.__call__, model.method, lambda x: model(x), eqx_core.Partial(lambda m, x: m(x), model)):
        np.testing.assert_allclose(filter_checkpoint(fun)(X), model(X), rtol=1e-6)


def test_it_is_a_pytree_that_holds_the_callable():
    wrapped = filter_checkpoint(block())
    assert [leaf.shape for leaf in jtu.tree_leaves(wrapped) if eqx_core.is_array(leaf)] == [(3, 3)]
    assert wrapped.__wrapped__.name == "block"
    assert filter_checkpoint(len) == filter_checkpoint(len)
    assert filter_checkpoint(len).__name__ == "len"
    assert filter_checkpoint(len) != filter_checkpoint(len, prevent_cse=False)


def test_closed_over_tracers_are_differentiated():
    def fun(y):
        return filter_checkpoint(lambda x: x * y)(jnp.array(3.0))

    assert jax.grad(fun)(2.0) == 3.0
    assert jax.jit(jax.grad(fun))(2.0) == 3.0
    assert jax.vmap(fun)(jnp.arange(2.0)).tolist() == [0.0, 3.0]


def test_no_tracer_leaks():
    model = block()
    with jax.checking_leaks():
        jax.jit(jax.grad(lambda x: jnp.sum(filter_checkpoint(lambda m, x: m(x))(model, x))))(X)
