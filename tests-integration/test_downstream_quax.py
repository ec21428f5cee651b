"""quax on `eqx.equinox_alias`: array-like values, which are Modules, go through ordinary functions and layers."""

import importlib
import importlib.util
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
if importlib.util.find_spec("quax") is None:
    pytest.skip("quax is not installed", allow_module_level=True)
quax = importlib.import_module("quax")
lora = importlib.import_module("quax.examples.lora")
unitful = importlib.import_module("quax.examples.unitful")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_low_rank_adaptation_of_a_layer():
    linear = eqx.nn.Linear(10, 12, key=jr.key(0))
    adapted = lora.loraify(linear, rank=3, key=jr.key(1))
    x = jr.normal(jr.key(2), (10,))
    run = quax.quaxify(lambda layer, x: layer(x))
    np.testing.assert_allclose(eqx.filter_jit(run)(adapted, x), linear(x), rtol=1e-4, atol=1e-5)
    grads = eqx.filter_grad(lambda layer: jnp.sum(run(layer, x) ** 2))(adapted)
    assert isinstance(adapted, eqx.nn.Linear)
    assert jnp.any(grads.weight.b != 0) or jnp.any(grads.weight.a != 0)


def test_values_are_modules_and_pass_through_transforms():
    metres = unitful.Unitful(jnp.array([1.0, 2.0]), {unitful.meters: 1})
    assert isinstance(metres, eqx.Module)
    area = quax.quaxify(jax.jit(lambda a: a * a))(metres)
    assert area.units == {unitful.meters: 2}
    np.testing.assert_allclose(area.array, [1.0, 4.0])
    assert eqx.tree_equal(jax.tree.map(lambda x: x, metres), metres)
    with pytest.raises(ValueError, match="Cannot add two arrays with units"):
        quax.quaxify(lambda a, b: a + b)(metres, area)


def test_a_quaxified_method_is_bound_to_its_module():
    class Area(eqx.Module):
        factor: jax.Array

        @quax.quaxify
        def __call__(self, side):
            """Square and scale."""
            return side * side * self.factor

    metres = unitful.Unitful(jnp.array([1.0, 2.0]), {unitful.meters: 1})
    area = eqx.filter_jit(Area(jnp.array(3.0)))(metres)
    assert area.units == {unitful.meters: 2}
    np.testing.assert_allclose(area.array, [3.0, 12.0])
    assert Area.__call__.__doc__ == "Square and scale."


def test_values_are_built_by_the_quick_way():
    import quax._module

    assert quax._module._FASTPATH_AVAILABLE
