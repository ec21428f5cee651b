"""quaxed on `eqx.equinox_alias`: the functions of JAX over array-like values, which are Modules."""

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
if importlib.util.find_spec("quaxed") is None:
    pytest.skip("quaxed is not installed", allow_module_level=True)
# It computes when it is imported, and relies on promotion.
with warnings.catch_warnings(action="default"), jax.numpy_dtype_promotion("standard"):
    import quax
    import quaxed
    import quaxed.numpy as qnp
    from quax.examples.unitful import Unitful, meters

pytestmark = pytest.mark.filterwarnings("default")
X = jnp.array([1.0, 2.0])


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Doubled(quax.ArrayValue):
    """An array that stands for twice its numbers."""

    half: jax.Array

    def aval(self):
        return jax.typeof(self.half)

    def materialise(self):
        return 2 * self.half


def test_functions_keep_a_value_and_its_unit():
    metres = Unitful(X, {meters: 1})
    area = eqx.filter_jit(qnp.multiply)(metres, metres)
    assert isinstance(area, Unitful)
    assert area.units == {meters: 2}
    np.testing.assert_allclose(area.array, [1.0, 4.0])
    with pytest.raises(ValueError, match="Cannot add two arrays with units"):
        qnp.add(metres, area)


def test_functions_without_a_rule_work_on_what_a_value_stands_for():
    np.testing.assert_allclose(qnp.sin(Doubled(X)), np.sin(2 * X), rtol=1e-6)
    np.testing.assert_allclose(quaxed.lax.add(Doubled(X), X), 3 * X)
    assert eqx.is_array_like(Doubled(X)) is False


@pytest.mark.parametrize("transform", ["grad", "jacfwd", "jacrev", "hessian"])
def test_transforms_are_those_of_jax(transform):
    if not hasattr(quaxed, transform):
        pytest.skip(f"this version of quaxed has no {transform}")

    def cubes(x):
        return qnp.sum(qnp.power(x, 3))

    mine, theirs = (getattr(module, transform)(cubes)(X) for module in (quaxed, jax))
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    value, slope = quaxed.value_and_grad(cubes)(X)
    np.testing.assert_allclose(value, 9.0, rtol=1e-6)
    np.testing.assert_allclose(slope, 3 * X**2, rtol=1e-5)
