"""distreqx on `eqx.equinox_alias`: distributions and bijectors are strict Modules, with densities against SciPy."""

import importlib.util
import sys
import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
if importlib.util.find_spec("distreqx") is None:
    pytest.skip("distreqx is not installed", allow_module_level=True)
with warnings.catch_warnings(action="default"):
    from distreqx import bijectors, distributions

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


COVARIANCE = np.array([[2.0, 0.3], [0.3, 1.0]], np.float32)
SCALARS = {
    "normal": (lambda: distributions.Normal(jnp.array(0.3), jnp.array(2.0)), stats.norm(0.3, 2.0)),
    "beta": (lambda: distributions.Beta(jnp.array(2.0), jnp.array(3.0)), stats.beta(2.0, 3.0)),
    "gamma": (lambda: distributions.Gamma(jnp.array(2.0), jnp.array(3.0)), stats.gamma(2.0, scale=1 / 3)),
    "logistic": (lambda: distributions.Logistic(jnp.array(0.1), jnp.array(0.5)), stats.logistic(0.1, 0.5)),
    "uniform": (lambda: distributions.Uniform(jnp.array(-1.0), jnp.array(2.0)), stats.uniform(-1.0, 3.0)),
}


@pytest.mark.parametrize("name", SCALARS)
def test_densities_and_samples(name):
    make, expected = SCALARS[name]
    distribution = make()
    assert isinstance(distribution, eqx.Module)
    density = eqx.filter_jit(lambda d, x: d.log_prob(x))(distribution, jnp.array(0.4))
    np.testing.assert_allclose(density, expected.logpdf(0.4), rtol=1e-4)
    np.testing.assert_allclose(distribution.mean(), expected.mean(), rtol=1e-5)
    samples = jax.vmap(distribution.sample)(jr.split(jr.key(0), 500))
    np.testing.assert_allclose(samples.mean(), expected.mean(), atol=5 * expected.std() / np.sqrt(500))


def test_a_normal_of_several_dimensions():
    normal = distributions.MultivariateNormalFullCovariance(jnp.zeros(2), jnp.array(COVARIANCE))
    x = jnp.array([1.0, -1.0])
    expected = stats.multivariate_normal(cov=COVARIANCE)
    np.testing.assert_allclose(normal.log_prob(x), expected.logpdf(x), rtol=1e-5)
    slope = jax.grad(normal.log_prob)(x)
    np.testing.assert_allclose(slope, -np.linalg.solve(COVARIANCE, x), rtol=1e-4)


def test_mixtures_map_over_their_components():
    def mixture(logits):
        parts = distributions.Normal(jnp.array([-1.0, 2.0]), jnp.array([1.0, 0.5]))
        return distributions.MixtureSameFamily(distributions.Categorical(logits=logits), parts)

    weights = np.array([0.3, 0.7])
    parts = stats.norm.pdf(0.3, [-1.0, 2.0], [1.0, 0.5])
    value, slope = jax.value_and_grad(lambda logits: mixture(logits).log_prob(jnp.array(0.3)))(jnp.log(weights))
    np.testing.assert_allclose(value, np.log(weights @ parts), rtol=1e-5)
    np.testing.assert_allclose(slope, weights * parts / (weights @ parts) - weights, rtol=1e-4, atol=1e-6)
    assert mixture(jnp.log(weights)).sample(jr.key(0)).shape == ()


class LogNormal(eqx.Module):
    """The exponential of a normal variable, of which both parameters are learnt."""

    mean: jax.Array
    log_scale: jax.Array

    def log_prob(self, x):
        base = distributions.Normal(jnp.array(0.0), jnp.array(1.0))
        affine = bijectors.ScalarAffine(self.mean, log_scale=self.log_scale)
        return distributions.Transformed(base, affine).log_prob(jnp.log(x)) - jnp.log(x)


def test_transformed_distributions_are_learnt():
    """The likelihood is greatest at the mean and the deviation of the logarithms."""
    data = jnp.exp(0.5 + 0.3 * jr.normal(jr.key(0), (64,)))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model):
        return -jnp.mean(jax.vmap(model.log_prob)(data))

    model = LogNormal(jnp.array(0.0), jnp.array(0.0))
    np.testing.assert_allclose(model.log_prob(jnp.array(2.0)), stats.lognorm(1.0).logpdf(2.0), rtol=1e-5)
    for _ in range(200):
        model = eqx.apply_updates(model, jax.tree.map(lambda g: -0.05 * g, gradient(model)))
    np.testing.assert_allclose(model.mean, jnp.log(data).mean(), atol=1e-3)
    np.testing.assert_allclose(model.log_scale, jnp.log(jnp.log(data).std()), atol=1e-2)


def test_bijectors_invert_themselves():
    chain = bijectors.Chain([bijectors.Tanh(), bijectors.ScalarAffine(jnp.array(0.2), jnp.array(0.7))])
    x = jnp.array(0.4)
    y, log_det = chain.forward_and_log_det(x)
    np.testing.assert_allclose(y, np.tanh(0.2 + 0.7 * 0.4), rtol=1e-5)
    np.testing.assert_allclose(chain.inverse(y), x, rtol=1e-4)
    np.testing.assert_allclose(log_det, jnp.log(jax.grad(chain.forward)(x)), rtol=1e-4)


def test_batches_of_distributions_are_made_and_asked():
    make = eqx.filter_vmap(distributions.Normal)
    normals = make(jnp.arange(3.0), jnp.ones(3))
    each = eqx.filter_vmap(lambda d, x: d.log_prob(x), in_axes=(eqx.if_array(0), None))(normals, jnp.array(1.0))
    np.testing.assert_allclose(each, stats.norm.logpdf(1.0, [0, 1, 2]), rtol=1e-5)


def test_abstract_and_final_classes_are_kept_apart():
    with pytest.raises(TypeError, match="abstract"):
        distributions.AbstractDistribution()
    with pytest.raises(TypeError, match="concrete"):
        type("Sub", (distributions.Normal,), {})
