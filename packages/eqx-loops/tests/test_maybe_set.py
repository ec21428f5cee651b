"""`maybe_set`: writing in place, where a predicate allows it."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_filter
import eqx_loops._maybe_set
from eqx_loops.internal import maybe_set_p

maybe_set = eqx_loops._maybe_set.maybe_set

ITEMS = {
    "int": 2,
    "negative int": -1,
    "slice": slice(1, 3),
    "tuple": (slice(None), 1),
    "ellipsis": (..., 0),
    "array": jnp.array([0, 2]),
    "traced": jnp.array(1),
    "arrays": (jnp.array([0, 3]), np.array([1, 0])),
    "nothing": slice(2, 2),
}
ARRAY = jnp.arange(8.0).reshape(4, 2)
every_item = pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)


def write(pred, array, item, x, may_be_false=False, **options):
    return maybe_set(pred, array, item, x, may_be_false=may_be_false, options=options)


def value_for(item):
    return 10 + jnp.arange(float(ARRAY[item].size)).reshape(ARRAY[item].shape)


def numpy_write(pred, array, item, x):
    array = np.array(array)
    if pred:
        array[item] = x
    return array


@every_item
@pytest.mark.parametrize("pred", [True, False])
def test_it_writes_where_numpy_would(item, pred):
    x = value_for(item)
    expected = numpy_write(pred, ARRAY, item, x)
    np.testing.assert_array_equal(write(pred, ARRAY, item, x, may_be_false=True), expected)
    out = jax.jit(lambda pred, array, x: write(pred, array, item, x, may_be_false=True))(pred, ARRAY, x)
    np.testing.assert_array_equal(out, expected)
    # Then the predicate is true, whatever its value.
    np.testing.assert_array_equal(write(pred, ARRAY, item, x), numpy_write(True, ARRAY, item, x))


@every_item
@pytest.mark.parametrize("may_be_false", [True, False])
@pytest.mark.parametrize("array_axis", [0, 2, None])
def test_in_a_batch_each_element_has_its_predicate(item, may_be_false, array_axis):
    preds, x = jnp.array([True, False]), value_for(item)
    xs = jnp.stack([x, 2 * x])
    arrays = [ARRAY, ARRAY] if array_axis is None else [ARRAY, 3 * ARRAY]
    operand = ARRAY if array_axis is None else jnp.stack(arrays, array_axis)
    mapped = jax.vmap(lambda pred, array, x: write(pred, array, item, x, may_be_false), (0, array_axis, 0))
    expected = [numpy_write(pred, array, item, x) for pred, array, x in zip(preds, arrays, xs, strict=True)]
    np.testing.assert_array_equal(mapped(preds, operand, xs), expected)
    np.testing.assert_array_equal(jax.jit(mapped)(preds, operand, xs), expected)


def test_a_batch_within_a_batch():
    preds = jnp.array([[True, False, True], [False, False, True]])
    places = jnp.array([0, 1, 3])
    xs = jnp.arange(6.0).reshape(2, 3)
    inner = jax.vmap(lambda pred, i, x: write(pred, ARRAY[:, 0], i, x), (0, 0, 0))
    out = jax.jit(jax.vmap(inner, (0, None, 0)))(preds, places, xs)
    for a, b in np.ndindex(2, 3):
        np.testing.assert_array_equal(out[a, b], numpy_write(preds[a, b], ARRAY[:, 0], places[b], xs[a, b]))


@every_item
@pytest.mark.parametrize("pred", [True, False])
def test_the_tangent_is_written_like_the_value(item, pred):
    x = value_for(item)
    _, tangent = jax.jvp(lambda array, x: write(pred, array, item, x, True), (ARRAY, x), (-ARRAY, 5 * x))
    np.testing.assert_array_equal(tangent, numpy_write(pred, -ARRAY, item, 5 * x))
    _, tangent = jax.jvp(lambda x: write(pred, ARRAY, item, x, True), (x,), (5 * x,))
    np.testing.assert_array_equal(tangent, numpy_write(pred, 0 * ARRAY, item, 5 * x))


@every_item
@pytest.mark.parametrize("pred", [True, False])
def test_the_cotangent_of_what_is_written_is_read_and_that_of_the_array_is_passed_on(item, pred):
    x = value_for(item)
    weights = 1 + ARRAY
    _, pull_back = jax.vjp(lambda array, x: write(pred, array, item, x, True), ARRAY, x)
    of_array, of_x = pull_back(weights)
    np.testing.assert_array_equal(of_array, weights)
    np.testing.assert_array_equal(of_x, np.asarray(weights[item]) * pred)


def test_cotangents_in_a_batch():
    preds = jnp.array([True, False])

    def f(pred, x):
        return jnp.sum(write(pred, ARRAY, 1, x) * ARRAY)

    grads = jax.jit(jax.vmap(jax.grad(f, 1)))(preds, jnp.ones((2, 2)))
    np.testing.assert_array_equal(grads, [ARRAY[1], 0 * ARRAY[1]])


def test_what_is_out_of_bounds_is_not_written_and_gets_no_gradient():
    def f(x):
        return jnp.sum(write(True, ARRAY, jnp.array(9), x))

    assert jax.grad(f)(jnp.ones(2)).tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(write(True, ARRAY, jnp.array(9), jnp.ones(2)), ARRAY)
    clipped = write(True, ARRAY, jnp.array(9), jnp.ones(2), mode="clip")
    np.testing.assert_array_equal(clipped, numpy_write(True, ARRAY, 3, 1.0))


def test_keys_and_integers():
    keys = jr.split(jr.key(0), 3)
    out = write(jnp.array(True), keys, 1, jr.key(7), may_be_false=True)
    assert jr.key_data(out)[1].tolist() == jr.key_data(jr.key(7)).tolist()
    assert write(True, jnp.arange(3), 1, jnp.array(7)).tolist() == [0, 7, 2]


def test_it_can_be_finalised():
    def f(pred, array, x):
        return write(pred, array, 1, x)

    jaxpr = eqx_filter.internal.finalise_make_jaxpr(jax.vmap(f))(jnp.ones(2, bool), jnp.ones((2, 3)), jnp.ones(2))
    names = {eqn.primitive.name for eqn in jaxpr.eqns}
    assert "scatter" in names
    assert not names & {"vprim", "maybe_set", "select_if_vmap"}
    assert maybe_set_p.multiple_results
