"""flowjax and paramax on `eqx.equinox_alias`: flows are trained, sampled from and constrained."""

import sys
import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
try:
    with warnings.catch_warnings(action="default"):
        import paramax
        from flowjax.bijections import Affine, RationalQuadraticSpline
        from flowjax.distributions import Normal, Transformed
        from flowjax.flows import block_neural_autoregressive_flow, coupling_flow, masked_autoregressive_flow
        from flowjax.train import fit_to_data
except ImportError as e:
    pytest.skip(f"flowjax cannot be imported: {e}", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_a_transformed_normal_has_the_density_of_a_normal():
    shifted = Transformed(Normal(jnp.zeros(2)), Affine(jnp.array([1.0, -1.0]), jnp.array([2.0, 0.5])))
    x = np.array([0.3, -0.2])
    z = (x - [1, -1]) / [2, 0.5]
    expected = -0.5 * np.sum(z**2) - np.log(2 * np.pi) - np.log(2 * 0.5)
    np.testing.assert_allclose(shifted.log_prob(jnp.array(x, jnp.float32)), expected, rtol=1e-5)
    assert isinstance(shifted, eqx.Module)


@pytest.mark.parametrize("make", [coupling_flow, masked_autoregressive_flow])
def test_flows_are_fitted(make):
    key = jr.key(0)
    kwargs = {"transformer": RationalQuadraticSpline(knots=4, interval=4)} if make is coupling_flow else {}
    flow = make(key, base_dist=Normal(jnp.zeros(2)), flow_layers=2, nn_width=8, nn_depth=1, **kwargs)
    data = jr.normal(jr.key(1), (200, 2)) * 0.5 + 2.0
    before = -flow.log_prob(data).mean()
    fitted, losses = fit_to_data(jr.key(2), flow, data, max_epochs=15, learning_rate=2e-2, show_progress=False)
    assert -fitted.log_prob(data).mean() < before - 0.5
    assert losses["train"][-1] < losses["train"][0]
    np.testing.assert_allclose(fitted.sample(jr.key(3), (500,)).mean(axis=0), 2.0, atol=0.5)


def test_a_flow_is_inverted_by_a_search():
    flow = block_neural_autoregressive_flow(jr.key(0), base_dist=Normal(jnp.zeros(2)), nn_depth=1, nn_block_dim=4)
    samples = flow.sample(jr.key(1), (3,))
    assert jnp.all(jnp.isfinite(flow.log_prob(samples)))


def test_constraints_are_unwrapped_in_the_loss():
    layer = eqx.nn.Linear(2, 2, key=jr.key(0))
    positive = paramax.Parameterize(jnp.exp, jnp.log(jnp.array([2.0, 3.0])))
    layer = eqx.tree_at(lambda m: m.bias, layer, positive)
    layer = eqx.tree_at(lambda m: m.weight, layer, replace_fn=paramax.non_trainable)

    def loss(layer):
        return jnp.sum(paramax.unwrap(layer)(jnp.ones(2)))

    grads = eqx.filter_grad(loss)(layer)
    np.testing.assert_allclose(paramax.unwrap(layer).bias, [2.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(jax.tree.leaves(grads.weight)[0], jnp.zeros((2, 2)))
    np.testing.assert_allclose(jax.tree.leaves(grads.bias)[0], [2.0, 3.0], rtol=1e-6)
    normalised = paramax.WeightNormalization(jnp.array([[3.0, 4.0]]))
    assert paramax.unwrap(normalised).shape == (1, 2)
    assert paramax.contains_unwrappables(layer)
