"""tinygp on `eqx.equinox_alias`: kernels are Modules; the density of a Gaussian process and its gradient."""

import importlib.util
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
if importlib.util.find_spec("tinygp") is None:
    pytest.skip("tinygp is not installed", allow_module_level=True)
with warnings.catch_warnings(action="default"):
    import tinygp

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


X = jnp.sort(jnp.array([0.1, 0.5, 0.9, 1.7, 2.4]))
Y = jnp.sin(X)


def log_probability(scale):
    kernel = 1.3 * tinygp.kernels.ExpSquared(scale)
    return tinygp.GaussianProcess(kernel, X, diag=0.1).log_probability(Y)


def test_the_density_is_that_of_a_normal_and_has_a_gradient():
    x, y = np.array(X, np.float64), np.array(Y, np.float64)

    def expected(scale):
        covariance = 1.3 * np.exp(-0.5 * (x[:, None] - x) ** 2 / scale**2) + 0.1 * np.eye(5)
        return -0.5 * (y @ np.linalg.solve(covariance, y) + np.linalg.slogdet(covariance)[1] + 5 * np.log(2 * np.pi))

    value, slope = jax.jit(jax.value_and_grad(log_probability))(jnp.array(0.8))
    np.testing.assert_allclose(value, expected(0.8), rtol=1e-4)
    np.testing.assert_allclose(slope, (expected(0.801) - expected(0.799)) / 0.002, rtol=1e-2)


def test_kernels_are_modules_and_can_be_written():
    class Linear(tinygp.kernels.Kernel):
        slope: jax.Array

        def evaluate(self, a, b):
            return self.slope * a * b

    kernel = Linear(jnp.array(2.0)) + tinygp.kernels.Matern32(1.0)
    assert isinstance(kernel, eqx.Module)
    np.testing.assert_allclose(Linear(jnp.array(2.0))(X, X), 2 * np.outer(X, X), rtol=1e-5)
    conditioned = tinygp.GaussianProcess(kernel, X, diag=1e-3).condition(Y, X).gp
    np.testing.assert_allclose(conditioned.mean, Y, atol=2e-2)


def test_scalable_solvers_agree():
    kernel = tinygp.kernels.quasisep.Matern32(scale=1.5)
    quick = tinygp.GaussianProcess(kernel, X, diag=0.1).log_probability(Y)
    slow = tinygp.GaussianProcess(tinygp.kernels.Matern32(1.5), X, diag=0.1).log_probability(Y)
    np.testing.assert_allclose(quick, slow, rtol=1e-3)
