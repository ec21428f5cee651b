import re

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_nn

KEY = jr.key(0)


def _layers(nn):
    first, last = jr.split(KEY)
    return [nn.Linear(2, 3, key=first), nn.Lambda(jax.nn.relu), nn.Dropout(0.5), nn.Linear(3, 1, key=last)]


class Count(eqx_nn.StatefulLayer):
    """Add the state to the input, and one to the state."""

    def __call__(self, x, state, *, key=None):
        return x + state, state + 1


class Stateless(eqx_nn.StatefulLayer):
    def __call__(self, x, *, key=None):
        return 2 * x

    def is_stateful(self):
        return False


def test_sequential_is_the_peers_from_the_same_key(peer, same_arrays):
    ours, theirs = eqx_nn.Sequential(_layers(eqx_nn)), peer.Sequential(_layers(peer))
    x = jnp.array([1.0, -2.0])
    same_arrays(ours, theirs)
    same_arrays(ours(x, key=KEY), theirs(x, key=KEY))


def test_layers_are_called_one_after_the_other():
    model = eqx_nn.Sequential([eqx_nn.Lambda(lambda x: x + 1), eqx_nn.Lambda(lambda x: 2 * x)])
    assert model(3) == 8
    assert eqx_nn.Sequential([])(3) == 3
    assert eqx_nn.Sequential([])(3, key=KEY) == 3


def test_each_layer_gets_a_key_of_its_own():
    seen = []

    def layer(x, key):
        seen.append(key)
        return x

    eqx_nn.Sequential([layer, layer])(1, key=KEY)
    np.testing.assert_array_equal(jr.key_data(jnp.stack(seen)), jr.key_data(jr.split(KEY)))
    eqx_nn.Sequential([layer])(1)
    assert seen[2] is None


def test_state_goes_through_the_stateful_layers_alone():
    model = eqx_nn.Sequential([Count(), eqx_nn.Lambda(lambda x: 10 * x), Stateless(), eqx_nn.Sequential([Count()])])
    assert model(1, 5) == ((1 + 5) * 20 + 6, 7)
    assert model.is_stateful()
    stateless = eqx_nn.Sequential([Stateless(), eqx_nn.Lambda(abs)])
    assert not stateless.is_stateful()
    assert stateless(-1) == 2
    assert stateless(-1, "state") == (2, "state")
    assert stateless(-1, None) == (2, None)


def test_a_missing_state_is_reported():
    message = "`Sequential.__call__(state=...)` must be given, because `layers[1]` is a stateful layer; got none"
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.Sequential([eqx_nn.Lambda(abs), Count()])(1)


def test_an_index_gives_a_layer_and_a_slice_a_sequential():
    layers = _layers(eqx_nn)
    model = eqx_nn.Sequential(layers)
    assert model.layers == tuple(layers)
    assert len(model) == 4
    assert list(model) == layers
    assert model[1] is layers[1]
    assert model[-1] is layers[3]
    assert model[np.int64(1)] is layers[1]
    assert model[1:3] == eqx_nn.Sequential(layers[1:3])


@pytest.mark.parametrize("index", ["a", (0, 1), 1.0, None])
def test_any_other_index_is_refused(index):
    with pytest.raises(TypeError, match=r"`Sequential\[index\]` must be an integer or a slice; got"):
        eqx_nn.Sequential([abs])[index]


def test_an_index_beyond_the_end_is_an_index_error():
    with pytest.raises(IndexError):
        eqx_nn.Sequential([abs])[1]


def test_equal_layers_make_equal_models_of_one_structure():
    one, two = (eqx_nn.Sequential(_layers(eqx_nn)) for _ in range(2))
    assert one == two
    assert jtu.tree_structure(one) == jtu.tree_structure(two)


def test_models_work_under_jit_and_grad():
    linear = eqx_nn.Linear(2, 2, key=KEY)
    model = eqx_nn.Sequential([linear, linear])
    x = jnp.ones(2)
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x))(model, x), linear(linear(x)), rtol=1e-6)
    gradient = jax.grad(lambda m: m(x).sum())(model)
    np.testing.assert_allclose(gradient[1].weight, jnp.stack([linear(x)] * 2), rtol=1e-6)
