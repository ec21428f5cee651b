"""Initialisers of layers: `weight_init` and `bias_init`, against the fan and the layout of each layer."""

import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_nn

KEY = jr.key(0)
INIT = jax.nn.initializers

# Layer, arguments, and what the weights' initialisers are to see: for each weight a shape, and how often.
LAYERS = {
    "Linear": (eqx_nn.Linear, (3, 5), {"weight": ((3, 5), 1)}),
    "Linear of scalars": (eqx_nn.Linear, ("scalar", "scalar"), {"weight": ((1, 1), 1)}),
    "Embedding": (eqx_nn.Embedding, (7, 3), {"weight": ((7, 3), 1)}),
    "Conv": (eqx_nn.Conv, (2, 4, 6, (3, 2)), {"weight": ((3, 2, 4, 6), 1)}),
    "Conv1d": (eqx_nn.Conv1d, (4, 6, 3, 1, 0, 1, 2), {"weight": ((3, 2, 3), 2)}),
    "Conv2d": (eqx_nn.Conv2d, (4, 4, 3, 1, 0, 1, 4), {"weight": ((3, 3, 1, 1), 4)}),
    "Conv3d": (eqx_nn.Conv3d, (2, 3, 2), {"weight": ((2, 2, 2, 2, 3), 1)}),
    "ConvTranspose": (eqx_nn.ConvTranspose, (2, 4, 6, (3, 2)), {"weight": ((3, 2, 4, 6), 1)}),
    "ConvTranspose1d": (eqx_nn.ConvTranspose1d, (4, 6, 3, 1, 0, 0, 1, 2), {"weight": ((3, 2, 3), 2)}),
    "ConvTranspose2d": (eqx_nn.ConvTranspose2d, (1, 2, 3), {"weight": ((3, 3, 1, 2), 1)}),
    "ConvTranspose3d": (eqx_nn.ConvTranspose3d, (2, 3, 2), {"weight": ((2, 2, 2, 2, 3), 1)}),
    "GRUCell": (eqx_nn.GRUCell, (2, 5), {"weight_ih": ((2, 5), 3), "weight_hh": ((5, 5), 3)}),
    "LSTMCell": (eqx_nn.LSTMCell, (2, 5), {"weight_ih": ((2, 5), 4), "weight_hh": ((5, 5), 4)}),
}

# To draw biases would take most of the time.
NO_BIAS = {name: {"use_bias": False} for name in LAYERS if name != "Embedding"}


def _make(name, *args, **kwargs):
    kind, own, _ = LAYERS[name]
    return kind(*own, *args, key=KEY, **kwargs)


def _zeros(key, shape, dtype):
    return jnp.zeros(shape, dtype)


def _inputs_first(weight, blocks):
    """Return a weight in the order of `jax.nn.initializers`, one block after the other along a new first axis."""
    weight = np.asarray(weight)
    weight = weight.reshape(blocks, -1, *weight.shape[1:])
    return np.moveaxis(weight, (2, 1), (-2, -1))


@pytest.mark.parametrize("name", LAYERS)
def test_initialisers_see_inputs_and_outputs_last(name):
    seen = []

    def init(key, shape, dtype):
        seen.append(shape)
        return _zeros(key, shape, dtype)

    layer = _make(name, weight_init=init, **NO_BIAS.get(name, {}))
    assert seen == [shape for shape, _ in LAYERS[name][2].values()]
    for field, (shape, blocks) in LAYERS[name][2].items():
        weight = getattr(layer, field)
        assert weight.shape == getattr(jax.eval_shape(lambda: _make(name)), field).shape
        if name != "Embedding":
            assert _inputs_first(weight, blocks).shape == (blocks, *shape)


@pytest.mark.parametrize("name", NO_BIAS)
def test_results_are_transposed_into_the_layers_layout(name):
    def init(key, shape, dtype):
        return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)

    layer = _make(name, weight_init=init, **NO_BIAS[name])
    for field, (shape, blocks) in LAYERS[name][2].items():
        for block in _inputs_first(getattr(layer, field), blocks):
            np.testing.assert_array_equal(block, np.arange(np.prod(shape)).reshape(shape))


def test_a_table_is_not_transposed():
    layer = eqx_nn.Embedding(7, 3, weight_init=INIT.normal(1.0), key=KEY)
    np.testing.assert_array_equal(layer.weight, INIT.normal(1.0)(KEY, (7, 3), jnp.float32))
    np.testing.assert_array_equal(layer.weight, eqx_nn.Embedding(7, 3, key=KEY).weight)


FAN = {
    "Linear": (lambda **k: eqx_nn.Linear(30, 500, key=KEY, **k), 30, 500),
    "Conv2d": (lambda **k: eqx_nn.Conv2d(8, 64, 3, key=KEY, **k), 8 * 9, 64 * 9),
    "depthwise": (lambda **k: eqx_nn.Conv2d(512, 512, 3, groups=512, key=KEY, **k), 9, 9),
    "ConvTranspose1d": (lambda **k: eqx_nn.ConvTranspose1d(16, 128, 3, key=KEY, **k), 48, 384),
}


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("name", FAN)
def test_the_variance_is_that_of_the_true_fan(name, mode):
    make, fan_in, fan_out = FAN[name]
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    weight = np.asarray(make(weight_init=INIT.variance_scaling(2.0, mode, "normal")).weight)
    np.testing.assert_allclose(weight.var(), 2 / fan, rtol=0.1)


@pytest.mark.parametrize(("cell", "gates"), [(eqx_nn.GRUCell, 3), (eqx_nn.LSTMCell, 4)])
def test_each_gate_is_drawn_by_itself(cell, gates):
    weights = cell(5, 4, weight_init=INIT.orthogonal(), key=KEY)
    blocks = np.asarray(weights.weight_hh).reshape(gates, 4, 4)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(4), atol=1e-5)
    assert not np.allclose(blocks[0], blocks[1])


@pytest.mark.parametrize("name", NO_BIAS)
def test_biases_are_what_their_initialiser_draws(name):
    layer = _make(name, weight_init=_zeros, bias_init=INIT.constant(3.0))
    default = jax.eval_shape(lambda: _make(name))
    for field in ("bias", "bias_n"):
        if hasattr(layer, field):
            assert getattr(layer, field).shape == getattr(default, field).shape
            assert (np.asarray(getattr(layer, field)) == 3).all()
    for field in LAYERS[name][2]:
        assert not np.asarray(getattr(layer, field)).any()


def test_one_initialiser_leaves_the_other_parameters_as_they_are():
    default = eqx_nn.Linear(3, 5, key=KEY)
    np.testing.assert_array_equal(eqx_nn.Linear(3, 5, weight_init=INIT.zeros, key=KEY).bias, default.bias)
    np.testing.assert_array_equal(eqx_nn.Linear(3, 5, bias_init=INIT.zeros, key=KEY).weight, default.weight)
    assert eqx_nn.Linear(3, 5, False, bias_init=INIT.zeros, key=KEY).bias is None


# JAX has no orthogonal matrices in bfloat16.
@pytest.mark.parametrize(
    ("init", "dtype"),
    [
        (INIT.zeros, "bfloat16"),
        (INIT.ones, "float16"),
        (INIT.constant(2.0), "bfloat16"),
        (INIT.normal(), "bfloat16"),
        (INIT.uniform(), "float16"),
        (INIT.truncated_normal(), "bfloat16"),
        (INIT.glorot_uniform(), "bfloat16"),
        (INIT.glorot_normal(), "float16"),
        (INIT.lecun_uniform(), "float32"),
        (INIT.lecun_normal(), "bfloat16"),
        (INIT.he_uniform(), "float32"),
        (INIT.he_normal(), "bfloat16"),
        (INIT.orthogonal(), "float32"),
        (jr.normal, "bfloat16"),
    ],
)
def test_every_initialiser_of_jax_serves(init, dtype):
    weight = eqx_nn.Linear(3, 2, dtype=dtype, weight_init=init, key=KEY).weight
    assert (weight.shape, weight.dtype) == ((2, 3), dtype)
    np.testing.assert_array_equal(weight, init(jr.split(KEY)[0], (3, 2), jnp.dtype(dtype)).T)


def test_kernels_can_start_as_the_identity():
    conv = eqx_nn.Conv2d(3, 3, 3, padding=1, weight_init=INIT.delta_orthogonal(), bias_init=INIT.zeros, key=KEY)
    x = jr.normal(KEY, (3, 5, 5))
    np.testing.assert_allclose(jnp.linalg.norm(conv(x)), jnp.linalg.norm(x), rtol=1e-5)


def test_complex_weights_and_layers_without_inputs_can_be_drawn():
    assert eqx_nn.Linear(3, 2, dtype="complex64", weight_init=INIT.he_normal(), key=KEY).weight.dtype == jnp.complex64
    assert eqx_nn.Linear(0, 2, weight_init=INIT.normal(), key=KEY).weight.shape == (2, 0)


@pytest.mark.parametrize("scan", [False, True])
def test_a_perceptron_passes_them_on_to_its_layers(scan):
    mlp = eqx_nn.MLP(2, 3, 4, 3, scan=scan, weight_init=INIT.orthogonal(), bias_init=INIT.ones, key=KEY)
    for layer in mlp.layers:
        assert (layer.bias == 1).all()
    stack = np.stack([layer.weight for layer in mlp.layers[1:-1]]) if not scan else mlp.layers[1].weight
    np.testing.assert_allclose(stack @ stack.swapaxes(1, 2), np.stack([np.eye(4)] * 2), atol=1e-5)


def test_a_perceptron_is_the_same_with_and_without_scan():
    loop, scan = (eqx_nn.MLP(2, 3, 4, 3, scan=s, weight_init=INIT.he_normal(), key=KEY) for s in (False, True))
    np.testing.assert_allclose(loop(jnp.ones(2)), scan(jnp.ones(2)), rtol=1e-5)


def test_attention_passes_them_on_to_its_layers():
    flags = dict.fromkeys(("use_query_bias", "use_key_bias", "use_value_bias", "use_output_bias"), True)
    layer = eqx_nn.MultiheadAttention(2, 4, weight_init=INIT.ones, bias_init=INIT.zeros, key=KEY, **flags)
    for linear in (layer.query_proj, layer.key_proj, layer.value_proj, layer.output_proj):
        assert (linear.weight == 1).all()
        assert not linear.bias.any()


def test_layers_are_drawn_under_jit_vmap_and_as_shapes():
    def make(key):
        return eqx_nn.Conv1d(2, 4, 3, groups=2, weight_init=INIT.he_normal(), key=key)

    keys = jr.split(KEY, 3)
    many = jax.jit(jax.vmap(make))(keys)
    np.testing.assert_allclose(many.weight[1], make(keys[1]).weight, rtol=1e-6)
    assert jax.eval_shape(make, KEY).weight == jax.ShapeDtypeStruct((4, 1, 3), jnp.float32)


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_no_initialiser_is_refused(name):
    layer = LAYERS[name][0].__name__
    layer = re.sub(r"\dd$", "", layer)
    message = f"`{layer}(weight_init=...)` must be a function `(key, shape, dtype) -> array`; got `str`. Give one of"
    with pytest.raises(TypeError, match=re.escape(message)):
        _make(name, weight_init="he")
    if name in NO_BIAS:
        with pytest.raises(TypeError, match=re.escape(f"`{layer}(bias_init=...)` must be a function")):
            _make(name, bias_init=0.0)


@pytest.mark.parametrize(
    ("init", "got"),
    [
        (lambda key, shape, dtype: jnp.ones(shape[::-1], dtype), "`f32[2,3]`"),
        (lambda key, shape, dtype: jnp.ones(shape, "bfloat16"), "`bf16[3,2]`"),
        (lambda key, shape, dtype: 0.0, "`0.0`"),
    ],
)
def test_an_initialiser_that_draws_something_else_is_refused(init, got):
    message = (
        "`Linear(weight_init=...)` must return an array of the shape and dtype that it is called with, `f32[3,2]`; got "
        f"{got}. Some of `jax.nn.initializers` are to be called first"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.Linear(3, 2, weight_init=init, key=KEY)
