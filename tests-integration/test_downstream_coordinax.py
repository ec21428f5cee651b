"""coordinax on `eqx.equinox_alias`: vectors, with converters, checks and dispatch on types."""

import importlib.util
import sys
import warnings

import jax
import numpy as np
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
if importlib.util.find_spec("coordinax") is None:
    pytest.skip("coordinax is not installed", allow_module_level=True)
# Both compute when they are imported, and rely on promotion.
with warnings.catch_warnings(action="default"), jax.numpy_dtype_promotion("standard"):
    import coordinax as cx
    import unxt as u

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_vectors_are_converted():
    point = cx.vecs.CartesianPos3D.from_([1.0, 2.0, 2.0], "km")
    assert isinstance(point, eqx.Module)
    sphere = point.vconvert(cx.vecs.SphericalPos)
    np.testing.assert_allclose(sphere.r.to_value("km"), 3.0, rtol=1e-6)
    back = eqx.filter_jit(lambda v: v.vconvert(cx.vecs.CartesianPos3D))(sphere)
    np.testing.assert_allclose(back.z.to_value("m"), 2000.0, rtol=1e-4)
    np.testing.assert_allclose((point + point).x.to_value("km"), 2.0)


def test_runtime_checks_raise_an_error_that_both_names_catch():
    import equinox

    with pytest.raises(equinox.EquinoxRuntimeError) as caught:
        cx.vecs.SphericalPos(r=u.Quantity(-1.0, "m"), theta=u.Quantity(1.0, "rad"), phi=u.Quantity(0.0, "rad"))
    assert isinstance(caught.value, eqx.EquinoxRuntimeError)
