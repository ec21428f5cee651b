"""Every layer, in every dtype, eagerly and under every transformation: one table, and the laws that hold for all."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
import eqx_filter
import eqx_nn

KEY = jr.key(0)


def _call(layer, x):
    return layer(x)


def _rnn(layer, x):
    hidden = x[2:] if isinstance(layer, eqx_nn.GRUCell) else (x[2:], 2 * x[2:])
    return jnp.concatenate(jax.tree.leaves(layer(x[:2], hidden)))


def _batch_norm(made, xs):
    layer, state = made
    return jax.vmap(layer, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(xs, _copy(state))[0]


def _stateful(made, x):
    layer, state = made
    return layer(x, _copy(state))[0]


def _copy(state):
    return jax.tree.map(lambda x: x, state)


def _tied(shared, x):
    first, second = shared()
    return second(first(x))


def _share(dtype):
    pair = (eqx_nn.Linear(2, 2, dtype=dtype, key=KEY), eqx_nn.Linear(2, 2, dtype=dtype, key=KEY))
    return eqx_nn.Shared(pair, lambda p: p[1].weight, lambda p: p[0].weight)


def _layer(name, *args, call=_call, **kwargs):
    """A layer that has a dtype and a key."""
    return lambda dtype: getattr(eqx_nn, name)(*args, dtype=dtype, key=KEY, **kwargs), call


def _norm(name, *args):
    return lambda dtype: getattr(eqx_nn, name)(*args, dtype=dtype), _call


def _plain(name, *args, **kwargs):
    """A layer without parameters."""
    return lambda dtype: getattr(eqx_nn, name)(*args, **kwargs), _call


def _spectral(dtype):
    def make():
        return eqx_nn.SpectralNorm(eqx_nn.Linear(3, 2, dtype=dtype, key=KEY), "weight", key=KEY)

    return eqx_nn.make_with_state(make)()


# Name: how to make it, and to call it; the shape of the input.
LAYERS = {
    "Linear": (*_layer("Linear", 3, 2), (3,)),
    "Identity": (*_plain("Identity"), (3,)),
    "PReLU": (lambda dtype: eqx_nn.PReLU(jnp.array(0.25, dtype)), _call, (3,)),
    "MLP": (*_layer("MLP", 2, 2, 3, 2, jnp.tanh), (2,)),
    "MLP scan": (*_layer("MLP", 2, 2, 3, 3, jnp.tanh, scan=True), (2,)),
    "Embedding": (*_layer("Embedding", 4, 3, call=lambda layer, x: x * layer(1)), (3,)),
    "RotaryPositionalEmbedding": (lambda dtype: eqx_nn.RotaryPositionalEmbedding(4, dtype=dtype), _call, (3, 4)),
    "Conv1d": (*_layer("Conv1d", 2, 2, 2), (2, 4)),
    "Conv2d": (*_layer("Conv2d", 2, 2, 2, padding="SAME", groups=2), (2, 2, 3)),
    "Conv3d": (*_layer("Conv3d", 1, 2, 2), (1, 2, 2, 3)),
    "ConvTranspose1d": (*_layer("ConvTranspose1d", 2, 2, 2, 2), (2, 3)),
    "ConvTranspose2d": (*_layer("ConvTranspose2d", 1, 2, 2), (1, 2, 2)),
    "ConvTranspose3d": (*_layer("ConvTranspose3d", 1, 1, 2), (1, 2, 2, 1)),
    "MultiheadAttention": (*_layer("MultiheadAttention", 2, 4, call=lambda f, x: f(x, x, x)), (3, 4)),
    "GRUCell": (*_layer("GRUCell", 2, 3, call=_rnn), (5,)),
    "LSTMCell": (*_layer("LSTMCell", 2, 3, call=_rnn), (5,)),
    "Dropout": (lambda dtype: eqx_nn.Dropout(0.5), lambda f, x: f(x, key=KEY), (4,)),
    "LayerNorm": (*_norm("LayerNorm", (2, 3)), (2, 3)),
    "GroupNorm": (*_norm("GroupNorm", 2, 4), (4, 2)),
    "RMSNorm": (*_norm("RMSNorm", (2, 3)), (2, 3)),
    "BatchNorm": (
        lambda dtype: eqx_nn.make_with_state(eqx_nn.BatchNorm)(2, "batch", dtype=dtype),
        _batch_norm,
        (3, 2, 2),
    ),
    "BatchNorm in inference": (
        lambda dtype: eqx_nn.make_with_state(eqx_nn.BatchNorm)(2, "batch", inference=True, dtype=dtype),
        _stateful,
        (2, 2),
    ),
    "SpectralNorm": (_spectral, _stateful, (3,)),
    "WeightNorm": (lambda dtype: eqx_nn.WeightNorm(eqx_nn.Linear(3, 2, dtype=dtype, key=KEY)), _call, (3,)),
    "Pool": (*_plain("Pool", 0, jax.lax.add, 1, 2), (2, 4)),
    "AvgPool1d": (*_plain("AvgPool1d", 2), (2, 4)),
    "AvgPool2d": (*_plain("AvgPool2d", 2), (1, 3, 3)),
    "AvgPool3d": (*_plain("AvgPool3d", 2), (1, 2, 2, 3)),
    "MaxPool1d": (*_plain("MaxPool1d", 2), (2, 4)),
    "MaxPool2d": (*_plain("MaxPool2d", 2), (1, 3, 3)),
    "MaxPool3d": (*_plain("MaxPool3d", 2), (1, 2, 2, 3)),
    "AdaptiveAvgPool1d": (*_plain("AdaptiveAvgPool1d", 2), (2, 5)),
    "AdaptiveAvgPool2d": (*_plain("AdaptiveAvgPool2d", 2), (1, 3, 3)),
    "AdaptiveAvgPool3d": (*_plain("AdaptiveAvgPool3d", 2), (1, 2, 3, 2)),
    "AdaptiveMaxPool1d": (*_plain("AdaptiveMaxPool1d", 2), (2, 5)),
    "AdaptiveMaxPool2d": (*_plain("AdaptiveMaxPool2d", 2), (1, 3, 3)),
    "AdaptiveMaxPool3d": (*_plain("AdaptiveMaxPool3d", 2), (1, 2, 3, 2)),
    "Sequential": (
        lambda dtype: eqx_nn.Sequential([eqx_nn.Linear(3, 2, dtype=dtype, key=KEY), eqx_nn.Lambda(jnp.sin)]),
        _call,
        (3,),
    ),
    "Lambda": (*_plain("Lambda", jnp.sin), (3,)),
    "Shared": (_share, _tied, (2,)),
}
# Those of which it is said that numbers may be complex.
COMPLEX = [
    "Linear",
    "Identity",
    "MLP",
    "MLP scan",
    "Embedding",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "LayerNorm",
    "GroupNorm",
    "RMSNorm",
    "BatchNorm",
    "BatchNorm in inference",
    "WeightNorm",
    "Pool",
    "AvgPool1d",
    "AdaptiveAvgPool1d",
    "Sequential",
]


@functools.cache
def _base(name):
    """Return a layer in float32, with parameters by NumPy: to draw them would take longer than all the rest."""
    make = functools.partial(LAYERS[name][0], "float32")
    if name == "SpectralNorm":
        return make()  # It holds singular vectors.
    rng = np.random.default_rng(0)

    def fill(struct):
        if not isinstance(struct, jax.ShapeDtypeStruct):
            return struct
        return jnp.asarray(rng.uniform(0.1, 0.6, struct.shape).astype(struct.dtype))

    return jax.tree.map(fill, eqx_filter.filter_eval_shape(make))


def _made(name, dtype):
    """Return a layer in some dtype."""
    if name == "RotaryPositionalEmbedding":
        return LAYERS[name][0](dtype)
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a, dtype)) if eqx_core.is_inexact_array(a) else a, _base(name))


@functools.cache
def _eager(name):
    """Return what a layer gives without any transformation, in float32."""
    _, call, shape = LAYERS[name]
    return np.asarray(call(_base(name), _input(shape, "float32")))


@functools.cache
def _input(shape, dtype):
    # All entries differ by far more than the precision, so that maxima are where they are.
    x = np.random.default_rng(0).permutation(np.arange(1, 1 + np.prod(shape))).reshape(shape) / np.prod(shape)
    return jnp.asarray(x * (1 + 0.5j if "complex" in dtype else 1), dtype)


def _loss(call, layer, x):
    out = call(layer, x)
    return jnp.sum(
        jnp.real(out * jnp.conj(out)) * jnp.arange(1, 1 + out.size, dtype=jnp.finfo(out.dtype).dtype).reshape(out.shape)
    )


def _everything(call, layer, x):
    """Return what each transformation gives, for the laws that tie them together."""
    f, loss = functools.partial(call, layer), functools.partial(_loss, call, layer)
    tangent = jnp.cos(x)
    return {
        "out": f(x),
        "vmap": eqx_filter.filter_vmap(f)(jnp.stack([1 - x, x]))[1],
        "jvp": eqx_filter.filter_jvp(f, (x,), (tangent,))[1],
        "jacfwd": eqx_filter.filter_jacfwd(f)(x),
        "jvp of loss": eqx_filter.filter_jvp(loss, (x,), (tangent,))[1],
        "hessian": eqx_filter.filter_hessian(loss)(x),
        "jvp of grad": eqx_filter.filter_jvp(eqx_filter.filter_grad(loss), (x,), (tangent,))[1],
        "grad": eqx_filter.filter_grad(lambda pair: _loss(call, *pair))((layer, x)),
    }


def _close(a, b, tolerance):
    a, b = (np.asarray(leaf, np.promote_types(np.asarray(leaf).dtype, np.float32)) for leaf in (a, b))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)))


@pytest.mark.parametrize("name", LAYERS)
def test_transformations_agree(name):
    _, call, shape = LAYERS[name]
    layer, x = _base(name), _input(shape, "float32")
    found = eqx_filter.filter_jit(functools.partial(_everything, call))(layer, x)
    tangent = np.cos(x)
    _close(found["out"], _eager(name), 1e-5)
    _close(found["out"], found["vmap"], 1e-5)
    _close(found["jvp"], np.tensordot(found["jacfwd"], tangent, tangent.ndim), 1e-4)
    gradient = found["grad"]
    _close(found["jvp of loss"], np.sum(gradient[1] * tangent), 1e-4)
    _close(found["jvp of grad"], np.tensordot(found["hessian"], tangent, tangent.ndim), 1e-3)
    hessian = found["hessian"].reshape(x.size, x.size)
    _close(hessian, hessian.T, 1e-3)
    parameters = eqx_filter.filter(layer, eqx_core.is_inexact_array)
    assert jtu.tree_structure(gradient[0]) == jtu.tree_structure(parameters)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_are_what_differences_say_with_64_bits(name):
    _, call, shape = LAYERS[name]
    layer, x = _made(name, "float64"), _input(shape, "float64")
    arrays, others = eqx_filter.partition((layer, x), eqx_core.is_inexact_array)
    direction = jax.tree.map(lambda leaf: np.cos(np.arange(leaf.size)).reshape(leaf.shape), arrays)

    @eqx_filter.filter_jit
    def loss_and_slope(step):
        def loss(step):
            moved = jax.tree.map(lambda a, d: a + step * d, arrays, direction)
            layer, x = eqx_filter.combine(moved, others)
            return _loss(call, layer, x)

        return jax.value_and_grad(loss)(step)

    h = 1e-5
    (above, _), (below, _), (value, slope) = map(loss_and_slope, map(jnp.asarray, (h, -h, 0.0)))
    assert value.dtype == slope.dtype == jnp.float64
    # SpectralNorm holds the vectors of the power iteration fixed, which at the end of it are right to first order.
    np.testing.assert_allclose(slope, (above - below) / (2 * h), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", LAYERS)
def test_low_precision_stays_and_is_right(name, dtype):
    _, call, shape = LAYERS[name]
    layer, x = _made(name, dtype), _input(shape, dtype)
    value, gradient = eqx_filter.filter_jit(
        lambda layer, x: (call(layer, x), eqx_filter.filter_grad(functools.partial(_loss, call, layer))(x))
    )(layer, x)
    assert value.dtype == gradient.dtype == dtype
    _close(value, _eager(name), 5e-2 if dtype == "bfloat16" else 1e-2)
    kinds = eqx_filter.filter_eval_shape(_everything, call, layer, x)
    assert {kind.dtype.name for kind in jax.tree.leaves(kinds)} == {dtype}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers_go_through(name):
    _, call, shape = LAYERS[name]
    layer, x = _made(name, "complex64"), _input(shape, "complex64")

    @eqx_filter.filter_jit
    def run(layer, x):
        loss = functools.partial(_loss, call, layer)
        tangent = (1 - 2j) * x
        slope = jax.jvp(loss, (x,), (tangent,))[1]
        return call(layer, x), jax.vmap(functools.partial(call, layer))(x[None])[0], slope, jax.grad(loss)(x), tangent

    out, mapped, slope, gradient, tangent = run(layer, x)
    assert out.dtype == gradient.dtype == jnp.complex64
    _close(out, call(layer, x), 1e-5)
    _close(out, mapped, 1e-5)
    _close(slope, np.real(np.sum(gradient * tangent)), 1e-4)


def test_every_layer_is_in_the_table():
    layers = {
        name
        for name, value in vars(eqx_nn).items()
        if isinstance(value, type) and issubclass(value, eqx_core.Module) and callable(value)
    }
    abstract = {"Conv", "ConvTranspose", "AdaptivePool", "StatefulLayer", "StateIndex"}
    assert layers - set(LAYERS) - abstract == set()


@pytest.mark.parametrize(
    "name",
    [
        "Linear",
        "MLP",
        "Conv2d",
        "ConvTranspose2d",
        "MultiheadAttention",
        "GRUCell",
        "LSTMCell",
        "RotaryPositionalEmbedding",
    ],
)
def test_a_clash_of_dtypes_names_both(name):
    _, call, shape = LAYERS[name]
    with pytest.raises(
        (TypeError, ValueError), match=r"(?s)(float32|f32).*(bfloat16|bf16)|(bfloat16|bf16).*(float32|f32)"
    ):
        call(_made(name, "bfloat16"), _input(shape, "float32"))
