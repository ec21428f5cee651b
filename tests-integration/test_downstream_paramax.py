"""paramax on `eqx.equinox_alias`: constraints are nodes of a model, and are unwrapped in its loss."""

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
if importlib.util.find_spec("paramax") is None:
    pytest.skip("paramax is not installed", allow_module_level=True)
with warnings.catch_warnings(action="default"):
    import paramax

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def constrained(key):
    """Return a layer whose weight is not trained and whose bias is positive."""
    layer = eqx.nn.Linear(2, 2, key=key)
    positive = paramax.Parameterize(jnp.exp, jnp.log(jnp.array([2.0, 3.0])))
    layer = eqx.tree_at(lambda m: m.bias, layer, positive)
    return eqx.tree_at(lambda m: m.weight, layer, replace_fn=paramax.non_trainable)


@eqx.filter_grad
def gradient(layer):
    return jnp.sum(paramax.unwrap(layer)(jnp.ones(2)))


def test_constraints_are_unwrapped_in_the_loss():
    layer = constrained(jr.key(0))
    assert isinstance(layer.bias, eqx.Module)
    assert paramax.contains_unwrappables(layer)
    plain = paramax.unwrap(layer)
    assert not paramax.contains_unwrappables(plain)
    assert eqx.tree_equal(plain.weight, eqx.nn.Linear(2, 2, key=jr.key(0)).weight)
    np.testing.assert_allclose(plain.bias, [2.0, 3.0], rtol=1e-6)
    grads = eqx.filter_jit(gradient)(layer)
    np.testing.assert_allclose(jax.tree.leaves(grads.weight)[0], jnp.zeros((2, 2)))
    np.testing.assert_allclose(jax.tree.leaves(grads.bias)[0], [2.0, 3.0], rtol=1e-6)


def test_layers_with_constraints_are_stacked():
    keys = jr.split(jr.key(0), 3)
    layers = eqx.filter_vmap(constrained)(keys)
    many = eqx.filter_vmap(lambda layer: paramax.unwrap(layer)(jnp.ones(2)))(layers)
    each = [paramax.unwrap(constrained(key))(jnp.ones(2)) for key in keys]
    np.testing.assert_allclose(many, jnp.stack(each), rtol=1e-5)


def test_weights_are_normalised():
    weight = jnp.array([[3.0, 4.0], [0.0, 2.0]])
    wrapped = paramax.WeightNormalization(weight)
    # Whatever the length of the vector, the scale alone decides on that of the result.
    longer = eqx.tree_at(lambda w: w.weight, wrapped, 5 * weight)
    np.testing.assert_allclose(paramax.unwrap(longer), paramax.unwrap(wrapped), rtol=1e-5)
    rows = paramax.unwrap(wrapped)
    directions = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(directions, [[0.6, 0.8], [0.0, 1.0]], rtol=1e-5)


def test_points_are_kept_in_order():
    knots = paramax.RealToIncreasingOnInterval(
        jnp.array([2.0, -1.0, 0.3]), (-1, 1), min_width=0.1, include_endpoints="both"
    )
    points = np.asarray(paramax.unwrap(knots))
    assert (points[0], points[-1], points.shape) == (-1, 1, (4,))
    assert np.all(np.diff(points) > 0.1 - 1e-6)


def test_a_wrapper_of_ones_own_is_unwrapped_inside_others():
    class Symmetric(paramax.AbstractUnwrappable[jax.Array]):
        lower: jax.Array

        def unwrap(self):
            return self.lower + self.lower.T

    matrix = jnp.array([[1.0, 0.0], [2.0, 3.0]])
    nested = paramax.Parameterize(jnp.exp, Symmetric(matrix))
    np.testing.assert_allclose(paramax.unwrap(nested), np.exp(matrix + matrix.T), rtol=1e-5)
    with pytest.raises(TypeError, match="abstract"):
        paramax.AbstractUnwrappable()


def test_a_value_out_of_range_raises_an_error_that_both_names_catch():
    import equinox

    with pytest.raises(equinox.EquinoxRuntimeError, match="positive inputs") as caught:
        paramax.utils.inv_softplus(jnp.array(-1.0))
    assert isinstance(caught.value, eqx.EquinoxRuntimeError)
