"""Parts that are not to be trained stay as they are, whatever the optimiser does to what it gets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx

optax = pytest.importorskip("optax")


class Scaled(eqx.Module):
    weight: jax.Array
    buffer: jax.Array

    def __call__(self, x):
        return self.weight * x + self.buffer


def step(model, spec, optimiser):
    trained, frozen = eqx.partition(model, spec)
    state = optimiser.init(trained)

    @eqx.filter_jit
    def update(trained, state):
        gradients = eqx.filter_grad(lambda t: eqx.combine(t, frozen)(jnp.ones(2)).sum())(trained)
        updates, state = optimiser.update(gradients, state, trained)
        return eqx.apply_updates(trained, updates), state

    for _ in range(3):
        trained, state = update(trained, state)
    return eqx.combine(trained, frozen)


def test_weight_decay_does_not_reach_a_frozen_buffer():
    """Trap: a buffer that is only hidden by `stop_gradient` is still decayed, from 1 to 0.95 in one step."""
    model = Scaled(jnp.ones(2), jnp.ones(2))
    spec = eqx.tree_at(lambda m: m.buffer, jax.tree.map(eqx.is_inexact_array, model), False)
    # Optax raises a float to the power of an integer array.
    with jax.numpy_dtype_promotion("standard"):
        after = step(model, spec, optax.adamw(0.1, weight_decay=0.5))
    assert np.array_equal(after.buffer, model.buffer)
    assert not np.array_equal(after.weight, model.weight)


def test_what_wrt_does_not_choose_has_no_gradient_for_an_optimiser_to_see():
    model = Scaled(jnp.ones(2), jnp.ones(2))
    gradients = eqx.filter_grad(lambda m: m(jnp.ones(2)).sum(), wrt=lambda m: m.weight)(model)
    assert gradients.buffer is None
    assert np.array_equal(gradients.weight, jnp.ones(2))
