"""traceax on `eqx.equinox_alias`: estimators of traces, which are strict Modules, over operators of lineax."""

import importlib.util
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
if importlib.util.find_spec("traceax") is None:
    pytest.skip("traceax is not installed", allow_module_level=True)
with warnings.catch_warnings(action="default"):
    import lineax as lx
    import traceax as tr

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


FACTOR = jnp.array([[1.0, 0.5], [2.0, -1.0], [0.0, 1.5], [0.3, 0.3], [-1.0, 2.0], [0.7, -0.4]])
LOW_RANK = FACTOR @ FACTOR.T
SAMPLERS = {"normal": tr.NormalSampler(), "sphere": tr.SphereSampler(), "Rademacher": tr.RademacherSampler()}


def operator(matrix):
    return lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_trace_of_low_rank_is_found_exactly(sampler):
    """Six products are enough for a sketch of rank two: nothing is left to chance."""
    estimator = tr.HutchPlusPlusEstimator(SAMPLERS[sampler])
    assert isinstance(estimator, eqx.Module)
    trace, _ = eqx.filter_jit(estimator.estimate)(jr.key(0), operator(LOW_RANK), 6)
    np.testing.assert_allclose(trace, np.trace(LOW_RANK), rtol=1e-4)


def test_a_trace_of_full_rank_is_found_by_as_many_products():
    matrix = LOW_RANK + jnp.diag(jnp.arange(1.0, 7.0))
    trace, statistics = eqx.filter_jit(tr.XNysTraceEstimator())(jr.key(1), operator(matrix), 6)
    np.testing.assert_allclose(trace, np.trace(matrix), rtol=1e-3)
    assert statistics["std.err"] < 0.1


@pytest.mark.parametrize("estimator", [tr.HutchinsonEstimator, tr.XTraceEstimator])
def test_estimates_of_many_keys_scatter_about_the_trace(estimator):
    keys = jr.split(jr.key(2), 200)
    estimates = jax.vmap(lambda key: estimator().estimate(key, operator(LOW_RANK), 4)[0])(keys)
    error = estimates.std() / np.sqrt(200)
    np.testing.assert_allclose(estimates.mean(), np.trace(LOW_RANK), atol=5 * float(error) + 1e-3)


def test_gradients_flow_to_the_operator():
    """Signs squared are ones, so for these samples the gradient of the diagonal is exact."""

    @eqx.filter_grad
    def gradient(operator):
        return tr.HutchinsonEstimator(tr.RademacherSampler()).estimate(jr.key(0), operator, 5)[0]

    np.testing.assert_allclose(jnp.diag(gradient(operator(LOW_RANK)).matrix), np.ones(6), rtol=1e-5)


def test_strict_classes_can_be_added():
    class Ones(tr.AbstractSampler, strict=True):
        dtype: Any = float

        def __call__(self, key, n, k):
            return jnp.ones((n, k))

    trace, _ = tr.HutchinsonEstimator(Ones()).estimate(jr.key(0), operator(LOW_RANK), 3)
    np.testing.assert_allclose(trace, np.sum(LOW_RANK), rtol=1e-4)
    with pytest.raises(TypeError, match="abstract"):
        tr.AbstractTraceEstimator()
