"""flowjax on `eqx.equinox_alias`: flows are trained, sampled from and inverted."""

import importlib.util
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
if importlib.util.find_spec("flowjax") is None:
    pytest.skip("flowjax is not installed", allow_module_level=True)
with warnings.catch_warnings(action="default"):
    from flowjax.bijections import Affine, RationalQuadraticSpline
    from flowjax.distributions import Normal, Transformed
    from flowjax.flows import block_neural_autoregressive_flow, coupling_flow, masked_autoregressive_flow
    from flowjax.train import fit_to_data

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
    kwargs = {"transformer": RationalQuadraticSpline(knots=4, interval=4)} if make is coupling_flow else {}
    flow = make(jr.key(0), base_dist=Normal(jnp.zeros(2)), flow_layers=2, nn_width=8, nn_depth=1, **kwargs)
    data = jr.normal(jr.key(1), (200, 2)) * 0.5 + 2.0
    density = eqx.filter_jit(lambda flow: flow.log_prob(data).mean())
    before = -density(flow)
    fitted, losses = fit_to_data(jr.key(2), flow, data, max_epochs=15, learning_rate=2e-2, show_progress=False)
    assert -density(fitted) < before - 0.5
    assert losses["train"][-1] < losses["train"][0]
    samples = eqx.filter_jit(lambda flow, key: flow.sample(key, (500,)))(fitted, jr.key(3))
    np.testing.assert_allclose(samples.mean(axis=0), 2.0, atol=0.5)


def test_a_flow_is_inverted_by_a_search():
    flow = block_neural_autoregressive_flow(jr.key(0), base_dist=Normal(jnp.zeros(2)), nn_depth=1, nn_block_dim=4)

    @eqx.filter_jit
    def there_and_back(flow, noise):
        samples = jax.vmap(flow.bijection.transform)(noise)
        return jax.vmap(flow.bijection.inverse)(samples)

    noise = jr.normal(jr.key(1), (3, 2))
    np.testing.assert_allclose(there_and_back(flow, noise), noise, atol=1e-3)
