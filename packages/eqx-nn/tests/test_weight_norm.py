import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
import eqx_nn

KEY = jr.key(0)


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_weight_norm_is_the_peers(peer, axis):
    x = jr.normal(KEY, (3,))
    ours = eqx_nn.WeightNorm(eqx_nn.Linear(3, 4, key=KEY), axis=axis)
    theirs = peer.WeightNorm(peer.Linear(3, 4, key=KEY), axis=axis)
    assert ours.g.shape == theirs.g.shape
    np.testing.assert_allclose(ours.g, theirs.g, rtol=1e-6)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_at_first_nothing_changes(axis, dtype):
    linear = eqx_nn.Linear(3, 4, dtype=dtype, key=KEY)
    x = jr.normal(KEY, (3,)).astype(dtype)
    out = eqx_nn.WeightNorm(linear, axis=axis)(x)
    assert out.dtype == x.dtype
    np.testing.assert_allclose(
        out.astype("complex64"), linear(x).astype("complex64"), rtol=2e-2 if dtype == "bfloat16" else 1e-5
    )


def test_g_is_the_norm_of_the_weight():
    conv = eqx_nn.WeightNorm(eqx_nn.Conv1d(2, 3, 3, use_bias=False, key=KEY))
    doubled = eqx_core.tree_at(lambda layer: layer.g, conv, replace_fn=lambda g: 2 * g)
    longer = eqx_core.tree_at(lambda layer: layer.layer.weight, conv, replace_fn=lambda v: 5 * v)
    x = jr.normal(KEY, (2, 6))
    np.testing.assert_allclose(doubled(x), 2 * conv(x), rtol=1e-5)
    np.testing.assert_allclose(longer(x), conv(x), rtol=1e-5)
    np.testing.assert_allclose(conv.g.ravel(), jnp.linalg.norm(conv.layer.weight.reshape(3, -1), axis=1), rtol=1e-6)


def test_equal_layers_are_equal_and_share_a_compilation():
    one, two = (eqx_nn.WeightNorm(eqx_nn.Linear(3, 4, key=KEY)) for _ in range(2))
    assert one == two
    assert jtu.tree_structure(one) == jtu.tree_structure(two)
    arrays = [jax.tree.map(lambda x: x if eqx_core.is_array(x) else None, layer) for layer in (one, two)]
    others = jax.tree.leaves(jax.tree.map(lambda x: None if eqx_core.is_array(x) else x, one))
    assert hash(others[0]) == hash(jax.tree.leaves(jax.tree.map(lambda x: None if eqx_core.is_array(x) else x, two))[0])
    assert jtu.tree_structure(arrays[0]) == jtu.tree_structure(arrays[1])


def test_gradients_reach_both_and_are_orthogonal_to_the_direction():
    layer = eqx_nn.WeightNorm(eqx_nn.Linear(3, 4, key=KEY))
    x = jr.normal(KEY, (3,))

    def loss(weight, g):
        pick = lambda layer: (layer.layer.weight, layer.g)  # noqa: E731
        return (eqx_core.tree_at(pick, layer, (weight, g))(x) ** 2).sum()

    of_weight, of_g = jax.jit(jax.grad(loss, (0, 1)))(layer.layer.weight, layer.g)
    assert of_g.all()
    assert of_weight.any()
    np.testing.assert_allclose((of_weight * layer.layer.weight).sum(1), np.zeros(4), atol=1e-5)


def test_another_name_of_the_weight_is_possible():
    linear = eqx_nn.Linear(3, 4, key=KEY)
    layer = eqx_nn.WeightNorm(linear, "bias")
    np.testing.assert_allclose(layer(jnp.ones(3)), linear(jnp.ones(3)), rtol=1e-5)


def test_weight_norm_works_under_vmap():
    layer = eqx_nn.WeightNorm(eqx_nn.Linear(3, 4, key=KEY))
    xs = jr.normal(KEY, (5, 3))
    np.testing.assert_allclose(jax.vmap(layer)(xs), jnp.stack([layer(x) for x in xs]), rtol=1e-5, atol=1e-6)
