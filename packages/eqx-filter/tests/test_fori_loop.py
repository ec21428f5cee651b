"""`filter_fori_loop` against `jax.lax.fori_loop` on arrays, and by hand on models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import eqx_core
import eqx_filter
from eqx_filter import filter_fori_loop


class Power(eqx_core.Module):
    weight: jax.Array  # f32[]
    activation: object
    name: str = eqx_core.field(static=True, default="power")

    def __call__(self, i, x):
        return self.activation(self.weight * x) + jnp.asarray(i, x.dtype)

    def grow(self, i):
        return eqx_core.tree_at(lambda m: m.weight, self, self.weight * 2)


def _by_hand(weight, lower, upper, x):
    for i in range(lower, upper):
        x = jnp.sin(weight * x) + i
    return x


@settings(max_examples=20)
@given(st.integers(-2, 3), st.integers(-2, 3), st.sampled_from([None, True, 2]))
def test_on_arrays_it_is_that_of_jax(lower, upper, unroll):
    def body(i, val):
        return val[0] + i, val[1] * 2

    arguments = (lower, upper, body, (jnp.asarray(0), jnp.float32(1)))
    ours, theirs = filter_fori_loop(*arguments, unroll=unroll), jax.lax.fori_loop(*arguments, unroll=unroll)
    assert jax.tree.map(float, ours) == jax.tree.map(float, theirs)
    assert jax.tree.map(jax.typeof, ours) == jax.tree.map(jax.typeof, theirs)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("bounds", [(0, 3), (np.int32(0), jnp.int32(3))], ids=["ints", "arrays"])
def test_a_module_may_be_the_body(transform, bounds):
    def run(weight, x):
        return filter_fori_loop(*bounds, Power(weight, jnp.sin), x)

    weight, x = jnp.float32(0.5), jnp.float32(1)
    np.testing.assert_allclose(transform(run)(weight, x), _by_hand(weight, 0, 3, x), rtol=1e-6)
    np.testing.assert_allclose(
        transform(jax.grad(run))(weight, x), jax.grad(lambda w: _by_hand(w, 0, 3, x))(weight), rtol=1e-5
    )


def test_a_module_may_be_the_value():
    model = filter_fori_loop(0, 3, lambda i, model: model.grow(i), Power(jnp.float32(1), jnp.sin))
    assert (float(model.weight), model.activation, model.name) == (8.0, jnp.sin, "power")


@pytest.mark.parametrize("lower", [0, jnp.int32(0)], ids=["int", "array"])
def test_a_bound_may_be_traced(lower):
    model = Power(jnp.float32(0.5), jnp.sin)
    run = jax.jit(lambda n: filter_fori_loop(lower, n, model, jnp.float32(1)))
    np.testing.assert_allclose(run(3), _by_hand(0.5, 0, 3, jnp.float32(1)), rtol=1e-6)
    # Forward mode works with any bounds.
    slope = jax.jit(
        lambda n, w: jax.jvp(lambda w: filter_fori_loop(lower, n, Power(w, jnp.sin), jnp.float32(1)), (w,), (w,))
    )
    expected = jax.jvp(lambda w: _by_hand(w, 0, 3, jnp.float32(1)), (jnp.float32(0.5),), (jnp.float32(0.5),))
    np.testing.assert_allclose(slope(3, jnp.float32(0.5)), expected, rtol=1e-5)


def test_it_is_mapped_by_vmap():
    model = Power(jnp.float32(0.5), jnp.sin)
    out = jax.vmap(lambda n, x: filter_fori_loop(0, n, model, x))(jnp.arange(4), jnp.ones(4))
    np.testing.assert_allclose(out, [_by_hand(0.5, 0, n, jnp.float32(1)) for n in range(4)], rtol=1e-6)


def test_disabling_jit_changes_nothing():
    model = Power(jnp.float32(0.5), jnp.sin)
    with jax.disable_jit():
        out = filter_fori_loop(0, 3, model, jnp.float32(1))
        assert filter_fori_loop(0, 0, model, ("a", jnp.float32(1))) == ("a", 1)
    np.testing.assert_allclose(out, _by_hand(0.5, 0, 3, jnp.float32(1)), rtol=1e-6)


@pytest.mark.parametrize("transform", [lambda f: f, eqx_filter.filter_jit], ids=["eager", "jit"])
def test_a_value_that_changes_is_named_by_path(transform):
    def body(i, val):
        return {"n": val["n"] + 1, "x": val["x"]}

    with pytest.raises(
        TypeError, match=r"`filter_fori_loop\(body_fun=...\)` must (.|\n)*val\['n'\]: static value 0 bec"
    ):
        transform(lambda val: filter_fori_loop(0, 2, body, val))({"n": 0, "x": jnp.zeros(())})
    with pytest.raises(
        TypeError, match=r"val: type 0\.0 became f32\[\]\nA Python number is static: make it `jnp.asarr"
    ):
        transform(lambda x: filter_fori_loop(0, 2, lambda i, val: val + x, 0.0))(jnp.ones(()))


@pytest.mark.parametrize(
    ("lower", "upper", "name"), [(0.5, 2, "lower"), (0, "2", "upper"), (0, jnp.ones(2, int), "upper")]
)
def test_bounds_must_be_integers(lower, upper, name):
    with pytest.raises(TypeError, match=rf"`filter_fori_loop\({name}=...\)` must be an integer"):
        filter_fori_loop(lower, upper, lambda i, x: x, jnp.ones(()))
