"""`select_if_vmap`: a selection only in a batch."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_filter
import eqx_loops._select_if_vmap
from eqx_loops.internal import select_if_vmap_p

select_if_vmap = eqx_loops._select_if_vmap.select_if_vmap

PREDS = jnp.array([True, False])
X, Y = jnp.arange(6.0).reshape(2, 3), -jnp.arange(6.0).reshape(2, 3)


def oracle(pred, x, y):
    return jnp.where(jnp.expand_dims(pred, range(pred.ndim, x.ndim)), x, y)


@pytest.mark.parametrize("pred", [True, False])
def test_without_a_batch_it_is_the_first_in_every_way(pred):
    assert select_if_vmap(pred, 1.0, 2.0) == 1.0
    assert jax.jit(select_if_vmap)(pred, 1.0, 2.0) == 1.0
    assert jax.vmap(select_if_vmap, (None, 0, 0))(pred, X, Y).tolist() == X.tolist()
    assert jax.grad(select_if_vmap, (1, 2))(pred, 1.0, 2.0) == (1.0, 0.0)
    assert jax.jvp(lambda x, y: select_if_vmap(pred, x, y), (1.0, 2.0), (3.0, 4.0)) == (1.0, 3.0)


@pytest.mark.parametrize("axes", [(0, 0, 0), (0, 0, None), (0, None, 0), (0, 1, 0), (0, None, None)])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_in_a_batch_it_selects(axes, wrap):
    _, *places = axes
    args = [
        array if place == 0 else array.T if place == 1 else array[0]
        for array, place in zip((X, Y), places, strict=True)
    ]
    expected = [
        jnp.where(
            pred,
            *(
                arg if place is None else jnp.moveaxis(arg, place, 0)[i]
                for arg, place in zip(args, places, strict=True)
            ),
        )
        for i, pred in enumerate(PREDS)
    ]
    out = wrap(jax.vmap(select_if_vmap, axes))(PREDS, *args)
    np.testing.assert_array_equal(out, jnp.stack(expected))


def test_a_batch_around_a_batch_without_predicates():
    inner = jax.vmap(select_if_vmap, (None, 0, 0))
    np.testing.assert_array_equal(jax.vmap(inner)(PREDS, X, Y), oracle(PREDS, X, Y))


@pytest.mark.parametrize("order", ["vmap of grad", "grad of vmap"])
def test_derivatives_in_a_batch(order):
    weights = jnp.array([1.0, 2.0, 3.0])

    def of_one(pred, x, y):
        return jnp.sum(weights * select_if_vmap(pred, x, y) ** 2)

    if order == "vmap of grad":
        grads = jax.vmap(jax.grad(of_one, (1, 2)))(PREDS, X, Y)
    else:
        grads = jax.grad(lambda x, y: jnp.sum(jax.vmap(of_one)(PREDS, x, y)), (0, 1))(X, Y)
    expected = jax.grad(lambda x, y: jnp.sum(weights[None] * oracle(PREDS, x, y) ** 2), (0, 1))(X, Y)
    np.testing.assert_allclose(grads, expected)
    tangents = jax.jvp(lambda x: jax.vmap(select_if_vmap)(PREDS, x, Y), (X,), (X,))[1]
    np.testing.assert_array_equal(tangents, oracle(PREDS, X, jnp.zeros_like(X)))


def test_what_has_no_tangent_gets_none():
    def f(x, y):
        return eqx_filter.internal.nondifferentiable(select_if_vmap(jnp.array(True), y, y + 1)) * x

    assert jax.grad(f)(2.0, 3.0) == 3.0


def test_keys_integers_and_empty_arrays():
    keys = jr.split(jr.key(0), 2)
    others = jr.split(jr.key(1), 2)
    out = jax.jit(jax.vmap(select_if_vmap))(PREDS, keys, others)
    np.testing.assert_array_equal(jr.key_data(out), [jr.key_data(keys)[0], jr.key_data(others)[1]])
    assert jax.vmap(select_if_vmap)(PREDS, jnp.array([1, 2]), jnp.array([3, 4])).tolist() == [1, 4]
    assert jax.vmap(select_if_vmap)(PREDS, jnp.ones((2, 0)), jnp.ones((2, 0))).shape == (2, 0)


def test_the_same_array_twice_needs_no_selection():
    x = jnp.ones(2)
    assert select_if_vmap(jnp.array(True), x, x) is x


def test_it_can_be_finalised():
    jaxpr = eqx_filter.internal.finalise_make_jaxpr(select_if_vmap)(True, 1.0, 2.0)
    assert not any(eqn.primitive is select_if_vmap_p for eqn in jaxpr.eqns)
