import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_nn

KEY = jr.key(0)


def _make(nn, layer="Linear", args=(3, 4), **kwargs):
    return nn.make_with_state(
        lambda: nn.SpectralNorm(getattr(nn, layer)(*args, key=KEY), "weight", **kwargs, key=KEY)
    )()


@pytest.mark.parametrize(("layer", "args", "shape"), [("Linear", (3, 4), (3,)), ("Conv1d", (2, 3, 3), (2, 5))])
@pytest.mark.parametrize("kwargs", [{}, {"num_power_iterations": 3}, {"inference": True}, {"eps": 0.1}])
def test_spectral_norm_is_the_peers_from_the_same_key(peer, layer, args, shape, kwargs):
    ours, our_state = _make(eqx_nn, layer, args, **kwargs)
    theirs, their_state = _make(peer, layer, args, **kwargs)
    x = jr.normal(jr.key(1), shape)
    for _ in range(2):
        for a, b in zip(jax.tree.leaves(our_state), jax.tree.leaves(their_state), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        (out, our_state), (their_out, their_state) = ours(x, our_state), theirs(x, their_state)
        np.testing.assert_allclose(out, their_out, rtol=1e-5, atol=1e-6)


def test_the_largest_singular_value_becomes_one():
    norm, state = _make(eqx_nn)
    for _ in range(20):
        _, state = norm(jnp.ones(3), state)
    jacobian = jax.jacrev(lambda x: norm(x, state, inference=True)[0])(jnp.ones(3))
    assert jnp.linalg.svd(jacobian)[1][0] == pytest.approx(1, rel=1e-4)


def test_inference_leaves_the_state_alone():
    norm, state = _make(eqx_nn)
    _, same = eqx_nn.inference_mode(norm)(jnp.ones(3), state)
    assert same is state
    _, new = norm(jnp.ones(3), state)
    assert repr(state) == "State(~old~)"
    assert not np.array_equal(new.get(norm.uv_index)[0], _make(eqx_nn)[1].get(norm.uv_index)[0])


def test_gradient_sees_the_norm():
    norm, state = _make(eqx_nn)
    x = jr.normal(KEY, (3,))
    for _ in range(50):
        _, state = norm(x, state)

    def ours(weight):
        layer = eqx_core.tree_at(lambda n: n.layer.weight, norm, weight)
        return (layer(x, state, inference=True)[0] ** 2).sum()

    def formula(weight):
        return ((weight / jnp.linalg.svd(weight, full_matrices=False)[1][0] @ x + norm.layer.bias) ** 2).sum()

    weight = norm.layer.weight
    np.testing.assert_allclose(jax.jit(jax.grad(ours))(weight), jax.grad(formula)(weight), rtol=1e-2, atol=1e-3)


def test_vectors_are_refused():
    message = "`SpectralNorm(layer=...)` must have a weight of at least two axes; got `f32[4]` as `bias`"
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.SpectralNorm(eqx_nn.Linear(3, 4, key=KEY), "bias", key=KEY)


def test_state_is_shared_by_a_batch():
    norm, state = _make(eqx_nn)
    xs = jr.normal(KEY, (5, 3))
    out, state = jax.jit(jax.vmap(norm, in_axes=(0, None), out_axes=(0, None)))(xs, state)
    again, _ = norm(xs[0], state, inference=True)
    np.testing.assert_allclose(out[0], again, rtol=1e-5)
