import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_nn

KEY = jr.key(0)


def _tied():
    embedding = eqx_nn.Embedding(5, 3, key=KEY)
    linear = eqx_nn.Linear(3, 5, use_bias=False, key=KEY)
    return eqx_nn.Shared((embedding, linear), lambda pair: pair[1].weight, lambda pair: pair[0].weight)


def test_both_places_hold_one_array():
    shared = _tied()
    embedding, linear = shared()
    assert linear.weight is embedding.weight is shared.pytree[0].weight


def test_there_is_one_copy_to_train():
    arrays = [leaf for leaf in jax.tree.leaves(_tied()) if eqx_core.is_array(leaf)]
    assert [a.shape for a in arrays] == [(5, 3)]


def test_a_change_in_one_place_is_a_change_in_both():
    shared = eqx_core.tree_at(lambda s: s.pytree[0].weight, _tied(), jnp.zeros((5, 3)))
    assert not shared()[1].weight.any()


def test_gradients_of_both_places_add_up():
    shared = _tied()

    def loss(weight):
        embedding, linear = eqx_core.tree_at(lambda s: s.pytree[0].weight, shared, weight)()
        return linear(embedding(1)).sum()

    weight = shared.pytree[0].weight
    expected = jax.grad(lambda w: (w @ w[1]).sum())(weight)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(weight), expected, rtol=1e-5)


def test_several_nodes_and_whole_layers_can_be_shared():
    one, two = eqx_nn.Linear(2, 2, key=KEY), eqx_nn.Linear(2, 2, key=jr.key(1))
    several = eqx_nn.Shared((one, two), lambda t: [t[1].weight, t[1].bias], lambda t: (t[0].weight, t[0].bias))
    assert several()[1] == one
    whole = eqx_nn.Shared([one, two], lambda t: t[1], lambda t: t[0])
    assert whole()[1].weight is one.weight
    assert len(jax.tree.leaves(whole.pytree)) == 2


def test_identity_of_other_leaves_is_kept():
    one, two = eqx_nn.Linear(2, 2, key=KEY), eqx_nn.Linear(2, 2, key=jr.key(1))
    shared = eqx_nn.Shared((one, two), lambda t: t[1].weight, lambda t: t[0].weight)
    assert shared()[1].bias is two.bias


def test_nodes_that_differ_are_refused():
    layers = (eqx_nn.Linear(2, 3, key=KEY), eqx_nn.Linear(2, 2, key=KEY))
    message = r"Every node being shared together must have the same structure.* like those of `get`, `f32\[3,2\]`; got `f32\[2,2\]`"
    with pytest.raises(ValueError, match=message):
        eqx_nn.Shared(layers, lambda t: t[1].weight, lambda t: t[0].weight)
    halves = (eqx_nn.Linear(2, 2, key=KEY), eqx_nn.Linear(2, 2, dtype="float16", key=KEY))
    with pytest.raises(ValueError, match=r"`f32\[2,2\]`; got `f16\[2,2\]`"):
        eqx_nn.Shared(halves, lambda t: t[1].weight, lambda t: t[0].weight)
