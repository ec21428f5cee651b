"""interpax on `eqx.equinox_alias`: interpolators are Modules with derivatives."""

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
if importlib.util.find_spec("interpax") is None:
    pytest.skip("interpax is not installed", allow_module_level=True)
with warnings.catch_warnings(action="default"):
    import interpax

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


X = jnp.linspace(0.0, 2.0, 30)


@pytest.mark.parametrize("method", ["linear", "cubic", "cubic2", "akima", "monotonic", "cardinal"])
def test_interpolators_interpolate_and_differentiate(method):
    curve = interpax.Interpolator1D(X, jnp.sin(X), method=method)
    assert isinstance(curve, eqx.Module)
    np.testing.assert_allclose(eqx.filter_jit(curve)(jnp.array(0.77)), np.sin(0.77), rtol=1e-2)
    np.testing.assert_allclose(jax.grad(curve)(jnp.array(0.77)), np.cos(0.77), rtol=0.1)


def test_in_two_dimensions():
    surface = interpax.Interpolator2D(X, X, jnp.sin(X)[:, None] * jnp.cos(X), method="cubic")
    value = surface(jnp.array(0.4), jnp.array(1.1))
    np.testing.assert_allclose(value, np.sin(0.4) * np.cos(1.1), rtol=1e-2)


def test_splines_are_trees():
    spline = interpax.CubicSpline(X, jnp.sin(X))
    doubled = jax.tree.map(lambda leaf: leaf, spline)
    np.testing.assert_allclose(doubled(0.77), np.sin(0.77), rtol=1e-3)
    np.testing.assert_allclose(spline.derivative()(0.77), np.cos(0.77), rtol=1e-2)
