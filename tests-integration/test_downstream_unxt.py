"""unxt on `eqx.equinox_alias`: quantities, whose fields are converted and whose units are checked, and dispatch on them."""

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
if importlib.util.find_spec("unxt") is None:
    pytest.skip("unxt is not installed", allow_module_level=True)
# It computes when it is imported, and relies on promotion.
with warnings.catch_warnings(action="default"), jax.numpy_dtype_promotion("standard"):
    import unxt as u

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_quantities_are_modules_that_know_their_unit():
    length, time = u.Quantity(jnp.array([1.0, 2.0]), "m"), u.Quantity(2.0, "s")
    assert isinstance(length, eqx.Module)
    speed = eqx.filter_jit(lambda a, b: a / b)(length, time)
    np.testing.assert_allclose(speed.to_value("km / h"), [1.8, 3.6], rtol=1e-5)
    assert eqx.tree_equal(jax.tree.map(lambda x: x, speed), speed)
    with pytest.raises(Exception, match="convertible"):
        length + time


def test_fields_are_converted_and_checked():
    assert isinstance(u.Quantity([1, 2], "m").value, jax.Array)
    assert u.Quantity(1.0, "m").unit is u.unit("m")
    assert isinstance(u.quantity.StaticQuantity(1.0, "m").value.array, np.ndarray)
    with pytest.raises(ValueError, match="angular dimensions"):
        u.Angle(1.0, "m")
    with pytest.raises(LookupError):
        u.Quantity("one", "m")
    with pytest.raises(AttributeError):
        u.Quantity(1.0, "m").value = 2.0


def test_quantities_are_differentiated():
    metre = u.Quantity(3.0, "m")
    for derivative, power, expected in (("grad", 2, 6.0), ("jacfwd", 3, 27.0), ("hessian", 3, 18.0)):
        derive = getattr(u.experimental, derivative)
        slope = derive(lambda x, power=power: x**power, units=("m",))(metre)
        np.testing.assert_allclose(slope.value, expected, rtol=1e-5)
    slope = eqx.filter_grad(lambda q: jnp.sum(q.value**2))(u.Quantity(jnp.array([1.0, 2.0]), "m"))
    assert isinstance(slope, u.Quantity)
    np.testing.assert_allclose(slope.value, [2.0, 4.0])


def test_quantities_go_through_loops_batches_and_edits():
    lengths = u.Quantity(jnp.arange(3.0), "m")
    np.testing.assert_allclose(jax.vmap(lambda q: q * q)(lengths).to_value("m2"), [0, 1, 4])
    last, _ = jax.lax.scan(lambda total, q: (total + q, None), u.Quantity(jnp.array(0.0), "m"), lengths)
    np.testing.assert_allclose(last.to_value("m"), 3.0)
    edited = eqx.tree_at(lambda q: q.value, lengths, jnp.ones(3))
    np.testing.assert_allclose(edited.to_value("cm"), 100.0, rtol=1e-6)
    np.testing.assert_allclose(lengths.at[1].set(u.Quantity(1.0, "km")).value, [0, 1000, 2])


def test_a_class_of_ones_own_is_dispatched_as_its_parent():
    class Depth(u.quantity.BareQuantity):
        pass

    depth = Depth(jnp.array(2.0), "m")
    assert isinstance(depth, eqx.Module)
    np.testing.assert_allclose(u.ustrip("km", u.uconvert("km", depth)), 0.002, rtol=1e-6)
    assert isinstance(u.uconvert("km", depth), Depth)


def test_systems_of_units_are_modules():
    system = u.unitsystem("kpc", "Myr", "Msun", "rad")
    np.testing.assert_allclose(u.Quantity(2000.0, "pc").decompose(system).value, 2.0, rtol=1e-6)
