import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_nn

KEY = jr.key(0)
SIZES = [(2, 3), ("scalar", 3), (2, "scalar"), ("scalar", "scalar")]


class Scale(eqx_core.Module):
    """An activation with a parameter."""

    by: jax.Array

    def __call__(self, x):
        return self.by * jnp.tanh(x)


def _x(mlp, dtype="float32"):
    return jnp.array(0.5, dtype) if mlp.in_size == "scalar" else jnp.linspace(-1, 1, mlp.in_size).astype(dtype)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 2, 4])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_mlp_is_the_peers_from_the_same_key(pair, same_arrays, sizes, depth, scan):
    ours, theirs = pair("MLP", *sizes, 4, depth, scan=scan, key=KEY)
    same_arrays(ours(_x(ours)), theirs(_x(ours)))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"use_bias": False},
        {"use_final_bias": False, "depth": 0},
        {"use_final_bias": False, "final_activation": jnp.tanh},
        {"activation": jnp.tanh, "final_activation": jax.nn.sigmoid, "out_size": "scalar"},
        {"dtype": "bfloat16"},
        {"dtype": "float16", "scan": True},
        {
            "activation": Scale(jnp.array(2.0)),
            "final_activation": Scale(np.array(3.0, "float32")),
            "out_size": "scalar",
        },
    ],
    ids=lambda kwargs: ", ".join(kwargs),
)
def test_options_are_the_peers(pair, same_arrays, kwargs):
    ours, theirs = pair("MLP", **{"in_size": 3, "out_size": 2, "width_size": 4, "depth": 2, "key": KEY} | kwargs)
    x = _x(ours, kwargs.get("dtype", "float32"))
    same_arrays(ours(x), theirs(x))


@pytest.mark.usefixtures("x64")
def test_mlp_is_the_peers_with_64_bits(pair, same_arrays):
    ours, theirs = pair("MLP", 2, 3, 4, 2, key=KEY)
    assert ours.layers[0].weight.dtype == jnp.float64
    same_arrays(ours(jnp.ones(2)), theirs(jnp.ones(2)))


def _numpy_mlp(layers, x):
    for layer in layers[:-1]:
        x = np.maximum(np.asarray(layer.weight) @ x + np.asarray(layer.bias), 0)
    return np.asarray(layers[-1].weight) @ x + np.asarray(layers[-1].bias)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_mlp_is_a_composition_of_affine_maps_and_activations(depth):
    mlp = eqx_nn.MLP(2, 3, 4, depth, key=KEY)
    assert isinstance(mlp.layers, tuple)
    assert len(mlp.layers) == depth + 1
    x = np.array([1.0, -2.0], np.float32)
    np.testing.assert_allclose(mlp(jnp.asarray(x)), _numpy_mlp(mlp.layers, x), rtol=1e-5, atol=1e-6)


def test_final_activation_is_applied_at_depth_zero_too():
    mlp = eqx_nn.MLP(2, 3, 4, 0, final_activation=jnp.tanh, key=KEY)
    np.testing.assert_array_equal(mlp(jnp.ones(2)), jnp.tanh(mlp.layers[0](jnp.ones(2))))
    scalar = eqx_nn.MLP(2, "scalar", 4, 0, final_activation=jnp.tanh, scan=True, key=KEY)
    np.testing.assert_array_equal(scalar(jnp.ones(2)), jnp.tanh(scalar.layers[0](jnp.ones(2))))


def _learnt(depth, scan):
    one = Scale(jnp.array(1.0))
    return eqx_nn.MLP(2, 3, 4, depth, activation=one, final_activation=one, scan=scan, key=KEY)


@pytest.mark.parametrize("depth", [1, 3])
def test_scanning_changes_nothing_but_how_layers_are_kept(depth):
    looped, scanned = _learnt(depth, scan=False), _learnt(depth, scan=True)
    x = jnp.array([1.0, -2.0])

    @jax.jit
    def gradient(mlp):
        return jax.value_and_grad(lambda mlp: mlp(x).sum())(mlp)

    value, of_looped = gradient(looped)
    same_value, of_scanned = gradient(scanned)
    np.testing.assert_allclose(same_value, value, rtol=1e-5)
    first, stack, last = of_scanned.layers
    assert stack.weight.shape == (depth - 1, 4, 4)
    unstacked = [first, *(jax.tree.map(lambda a, i=i: a[i], stack) for i in range(depth - 1)), last]
    for one, other in zip(unstacked, of_looped.layers, strict=True):
        np.testing.assert_allclose(one.weight, other.weight, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one.bias, other.bias, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of_scanned.activation.by, of_looped.activation.by, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scan", [False, True])
def test_each_neuron_learns_its_own_activation(scan):
    mlp = _learnt(2, scan)
    assert mlp.activation.by.shape == (2, 4)
    assert mlp.final_activation.by.shape == (3,)
    by = jnp.arange(8.0).reshape(2, 4)
    mlp = eqx_core.tree_at(lambda m: m.activation.by, mlp, by)
    x = jnp.array([1.0, -2.0])
    layers = eqx_nn.MLP(2, 3, 4, 2, key=KEY).layers
    hidden = by[0] * jnp.tanh(layers[0](x))
    hidden = by[1] * jnp.tanh(layers[1](hidden))
    np.testing.assert_allclose(mlp(x), jnp.tanh(layers[2](hidden)), rtol=1e-5)


def test_activation_for_a_scalar_is_not_copied():
    mlp = eqx_nn.MLP(2, "scalar", 4, 1, final_activation=Scale(jnp.array(2.0)), key=KEY)
    assert mlp.final_activation.by.shape == ()
    assert mlp(jnp.ones(2)).shape == ()


def test_activations_see_one_neuron_at_a_time():
    shapes = []

    def activation(x):
        shapes.append(x.shape)
        return x

    eqx_nn.MLP(2, 3, 4, 2, activation, activation, key=KEY)(jnp.ones(2))
    assert shapes == [(), (), ()]


def test_depth_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"`MLP\(depth=...\)` must be at least 0; got -1"):
        eqx_nn.MLP(1, 1, 1, -1, key=KEY)


def test_input_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"`\(in_features,\)` = `\(2,\)`; got `f32\[8,2\]`"):
        eqx_nn.MLP(2, 1, 1, 1, key=KEY)(jnp.ones((8, 2)))
