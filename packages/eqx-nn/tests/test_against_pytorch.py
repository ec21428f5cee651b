"""Layers against those of PyTorch of the same weights: outputs, and gradients by every weight and input."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_nn

torch = pytest.importorskip("torch")

KEY = jr.key(0)
BATCH = 2
# Small programs that run once: to optimise them would take most of the time.
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Case(NamedTuple):
    """One computation, in both libraries.

    Each input is a shape, for which numbers are drawn, or an array. `convert` returns our arrays by path for their
    parameters by name; `ours` and `theirs` call the layer and the module on a batch.
    """

    layer: Any
    module: Any
    inputs: tuple[Any, ...]
    convert: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ours: Callable[..., Any] = lambda layer, *inputs: jax.vmap(layer)(*inputs)
    theirs: Callable[..., Any] = lambda module, *inputs: module(*inputs)


def _assert_same(case):
    """Draw parameters, inputs and cotangents, and compare outputs and gradients."""
    rng = np.random.default_rng(0)
    normal = functools.partial(rng.standard_normal, dtype=np.float32)
    parameters = {name: normal(p.shape) / 2 for name, p in case.module.named_parameters()}
    inputs = [normal(x) if isinstance(x, tuple) else x for x in case.inputs]
    with torch.no_grad():
        for name, p in case.module.named_parameters():
            p.copy_(torch.tensor(parameters[name]))
    theirs, their_vjp = _torch_vjp(case, inputs)
    cotangents = [normal(x.shape) for x in theirs]
    ours, our_gradients = _jax_vjp(case, parameters, inputs, cotangents)
    for a, b in zip(ours, theirs, strict=True):
        _close(a, b, "output")
    their_gradients = their_vjp(cotangents)
    assert list(our_gradients) == list(their_gradients)
    for name, gradient in our_gradients.items():
        _close(gradient, their_gradients[name], f"gradient of {name}")


def _close(ours, theirs, name):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4, atol=2e-5, err_msg=name, strict=True)


def _is_float(x):
    return np.issubdtype(x.dtype, np.floating)


def _torch_vjp(case, inputs):
    """Return the outputs, and a function from cotangents to gradients by name."""
    tensors = [torch.tensor(x, requires_grad=_is_float(x)) for x in inputs]
    outputs = jax.tree.leaves(case.theirs(case.module, *tensors))
    wanted = dict(case.module.named_parameters())
    wanted |= {f"input {i}": x for i, x in enumerate(tensors) if x.requires_grad}

    def vjp(cotangents):
        gradients = torch.autograd.grad(outputs, list(wanted.values()), list(map(torch.tensor, cotangents)))
        return dict(zip(wanted, gradients, strict=True))

    return [x.detach().numpy() for x in outputs], vjp


def _jax_vjp(case, parameters, inputs, cotangents):
    """Return our outputs and gradients, by their parameters: through `convert`, so that its derivative is the map back."""
    floats = {f"input {i}": x for i, x in enumerate(inputs) if _is_float(x)}

    def call(wanted):
        layer = _loaded(case.layer, case.convert({name: wanted[name] for name in parameters}))
        arguments = (wanted.get(f"input {i}", x) for i, x in enumerate(inputs))
        return jax.tree.leaves(case.ours(layer, *arguments))

    @_jit
    def run(wanted, cotangents):
        outputs, vjp = jax.vjp(call, wanted)
        return outputs, vjp(cotangents)[0]

    wanted = parameters | floats
    outputs, gradients = run(jax.tree.map(jnp.asarray, wanted), list(map(jnp.asarray, cotangents)))
    return outputs, {name: gradients[name] for name in wanted}


def _loaded(layer, arrays):
    """Return the layer with all of its parameters replaced, by path."""
    parameters = [
        x for x in jax.tree.leaves(layer) if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    assert len(arrays) == len(parameters)
    if not arrays:
        return layer
    get = operator.attrgetter(*arrays)
    old, new = get(layer), tuple(arrays.values())
    assert [x.shape for x in (old if len(new) > 1 else (old,))] == [x.shape for x in new]
    return eqx_core.tree_at(get, layer, new if len(new) > 1 else new[0])


def _linear(*sizes, bias=True):
    layer = eqx_nn.Linear(*sizes, use_bias=bias, key=KEY)
    return Case(layer, torch.nn.Linear(*sizes, bias=bias), ((BATCH, sizes[0]),))


def _conv(name, *, spatial, bias=True, **kwargs):
    dims, full_name = len(spatial), f"{name}{len(spatial)}d"
    layer = getattr(eqx_nn, full_name)(**kwargs, use_bias=bias, key=KEY)
    module = getattr(torch.nn, full_name)(**kwargs, bias=bias)
    transposed = functools.partial(_transposed_kernel, dims, kwargs.get("groups", 1))
    convert = functools.partial(_kernel, dims) if name == "Conv" else transposed
    return Case(layer, module, ((BATCH, kwargs["in_channels"], *spatial),), convert)


def _kernel(dims, p):
    """Give the bias, where there is one, the spatial axes that ours has."""
    return {name: x.reshape(-1, *[1] * dims) if name == "bias" else x for name, x in p.items()}


def _transposed_kernel(dims, groups, p):
    """Turn the kernel of the convolution that is transposed, theirs, into that of the one which does the work, ours."""
    inputs, outputs, *kernel = p["weight"].shape
    weight = p["weight"].reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    weight = jnp.flip(weight.reshape(groups * outputs, inputs // groups, *kernel), range(2, 2 + dims))
    return _kernel(dims, p | {"weight": weight})


def _pool(name, spatial, use_ceil=False, **kwargs):
    name = f"{name}Pool{len(spatial)}d"
    layer, module = getattr(eqx_nn, name)(**kwargs, use_ceil=use_ceil), getattr(torch.nn, name)
    return Case(layer, module(**kwargs, ceil_mode=use_ceil), ((BATCH, 3, *spatial),))


def _adaptive_pool(name, target, spatial):
    name = f"Adaptive{name}Pool{len(spatial)}d"
    return Case(getattr(eqx_nn, name)(target), getattr(torch.nn, name)(target), ((BATCH, 3, *spatial),))


def _layer_norm(shape, weight=True, bias=True):
    module = torch.nn.LayerNorm(shape, eps=1e-3, elementwise_affine=weight, bias=bias)
    return Case(eqx_nn.LayerNorm(shape, eps=1e-3, use_weight=weight, use_bias=bias), module, ((BATCH, *shape),))


def _rms_norm(shape, weight=True):
    module = torch.nn.RMSNorm(shape, eps=1e-3, elementwise_affine=weight)
    layer = eqx_nn.RMSNorm(shape, eps=1e-3, use_weight=weight, use_bias=False)
    return Case(layer, module, ((BATCH, *shape),))


def _group_norm(groups, channels, spatial, affine=True):
    layer = eqx_nn.GroupNorm(groups, channels, eps=1e-3, channelwise_affine=affine)
    module = torch.nn.GroupNorm(groups, channels, eps=1e-3, affine=affine)
    return Case(layer, module, ((BATCH, channels, *spatial),))


def _batch_norms(affine=True):
    """Return our layer, its state, and two-dimensional batch normalisation in PyTorch."""
    make = eqx_nn.make_with_state(eqx_nn.BatchNorm)
    layer, state = make(3, "batch", eps=1e-3, momentum=0.75, channelwise_affine=affine, mode="batch")
    return layer, state, torch.nn.BatchNorm2d(3, eps=1e-3, momentum=0.25, affine=affine)


def _normalised(layer, x, state):
    """Return the output for a batch, and the new state; the old one stays valid."""
    mapped = jax.vmap(layer, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    return mapped(x, jax.tree.map(lambda leaf: leaf, state))


def _batch_norm(affine=True):
    layer, state, module = _batch_norms(affine)
    return Case(layer, module, ((4, 3, 2, 5),), ours=lambda layer, x: _normalised(layer, x, state)[0])


def _lstm_cell(bias=True):
    def convert(p):
        # Theirs has two biases that only ever occur as a sum.
        sums = {"bias": p["bias_ih"] + p["bias_hh"]} if bias else {}
        return {"weight_ih": p["weight_ih"], "weight_hh": p["weight_hh"], **sums}

    return Case(
        eqx_nn.LSTMCell(3, 4, use_bias=bias, key=KEY),
        torch.nn.LSTMCell(3, 4, bias=bias),
        ((BATCH, 3), (BATCH, 4), (BATCH, 4)),
        convert,
        lambda cell, x, h, c: jax.vmap(cell)(x, (h, c)),
        lambda cell, x, h, c: cell(x, (h, c)),
    )


def _gru_cell(bias=True):
    def convert(p):
        weights = {"weight_ih": p["weight_ih"], "weight_hh": p["weight_hh"]}
        if not bias:
            return weights
        # Of the two biases that theirs has for each gate, only those of the new gate are not just summed.
        gates, new = p["bias_hh"][:8], p["bias_hh"][8:]
        return weights | {"bias": p["bias_ih"] + jnp.concatenate([gates, jnp.zeros(4)]), "bias_n": new}

    layer, module = eqx_nn.GRUCell(3, 4, use_bias=bias, key=KEY), torch.nn.GRUCell(3, 4, bias=bias)
    return Case(layer, module, ((BATCH, 3), (BATCH, 4)), convert)


def _embedding():
    # A row that is looked up twice gets the sum of two gradients, and one that is not gets 0.
    indices = np.array([4, 0, 4, 2], "int32")
    return Case(eqx_nn.Embedding(5, 3, key=KEY), torch.nn.Embedding(5, 3), (indices,))


def _prelu(count, shape):
    layer = eqx_nn.PReLU(jnp.zeros(shape))
    return Case(
        layer, torch.nn.PReLU(count), ((BATCH, 3, 4),), lambda p: {"negative_slope": p["weight"].reshape(shape)}
    )


def _dropout():
    return Case(eqx_nn.Dropout(0.5, inference=True), torch.nn.Dropout(0.5).eval(), ((BATCH, 7),))


def _attention(queries=4, keys=4, mask=None, is_causal=False, bias=True, key_size=8, value_size=8, **kwargs):
    """Attention of two heads of size 4; `mask` is ours, True where a query is to attend to a key."""
    sizes = {"key_size": key_size, "value_size": value_size}
    biases = {f"use_{name}_bias": bias for name in ("query", "key", "value", "output")}
    layer = eqx_nn.MultiheadAttention(2, 8, **sizes, **biases, key=KEY)
    module = torch.nn.MultiheadAttention(8, 2, bias=bias, kdim=key_size, vdim=value_size, batch_first=True)
    allowed = np.ones((queries, keys), bool) if mask is None else mask
    allowed = np.tril(allowed) if is_causal else allowed
    # Theirs is True where ours is False, and has a mask for each head of each example.
    forbidden = torch.tensor(~np.tile(allowed, (BATCH, 1, 1)) if allowed.ndim == 3 else ~allowed)
    ours_mask = None if mask is None else jnp.asarray(mask)
    return Case(
        layer,
        module,
        ((BATCH, queries, 8), (BATCH, keys, key_size), (BATCH, keys, value_size)),
        _projections,
        lambda layer, *x: jax.vmap(functools.partial(layer, mask=ours_mask, is_causal=is_causal, **kwargs))(*x),
        lambda module, *x: module(*x, attn_mask=forbidden, need_weights=False)[0],
    )


def _projections(p):
    """Unpack the projections: theirs are one weight if all sizes are the same, and always one bias."""
    names = ("query_proj", "key_proj", "value_proj")
    packed = "in_proj_weight" in p
    weights = jnp.split(p["in_proj_weight"], 3) if packed else [p[f"{x}_proj_weight"] for x in "qkv"]
    arrays = {f"{name}.weight": x for name, x in zip(names, weights, strict=True)}
    arrays["output_proj.weight"] = p["out_proj.weight"]
    if "in_proj_bias" in p:
        arrays |= {f"{name}.bias": x for name, x in zip(names, jnp.split(p["in_proj_bias"], 3), strict=True)}
        arrays["output_proj.bias"] = p["out_proj.bias"]
    return arrays


def _mask(*shape):
    """Return a mask that lets each query attend to something: for nothing PyTorch gives 0, and ours a mean."""
    return (np.random.default_rng(1).random(shape) < 0.5) | np.eye(*shape[-2:], dtype=bool)


_C = {"in_channels": 4, "out_channels": 6, "kernel_size": 3}
_ONE_BY_ONE = {
    "plain": {},
    "no-bias": {"bias": False},
    "stride": {"stride": 2},
    "padding": {"padding": 2},
    "dilation": {"dilation": 2},
    "groups": {"groups": 2},
    "depthwise": {"out_channels": 8, "groups": 4},
}
_ALL_1D = {"kernel_size": 3, "stride": 2, "padding": 3, "dilation": 2, "groups": 2}
_ALL_2D = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
_ALL_3D = {"kernel_size": (3, 2, 1), "stride": (1, 2, 1), "padding": (1, 2, 0), "dilation": (2, 1, 1), "groups": 2}

CONVOLUTIONS = (
    {f"conv1d-{label}": _C | {"spatial": (8,)} | kwargs for label, kwargs in _ONE_BY_ONE.items()}
    | {
        f"conv{len(spatial)}d-all-{mode}": _C | {"spatial": spatial, "padding_mode": mode} | kwargs
        for mode in ("zeros", "reflect", "replicate", "circular")
        for spatial, kwargs in (((8,), _ALL_1D), ((5, 6), _ALL_2D), ((4, 3, 3), _ALL_3D))
    }
    | {
        "conv1d-same": _C | {"spatial": (7,), "padding": "same"},
        "conv1d-same-even-kernel": _C | {"spatial": (7,), "kernel_size": 4, "padding": "same"},
        "conv1d-valid": _C | {"spatial": (7,), "padding": "valid"},
        "conv2d-same-dilation": _C | {"spatial": (5, 6), "dilation": (2, 1), "padding": "same"},
    }
)

TRANSPOSED = {f"conv-transpose1d-{label}": _C | {"spatial": (5,)} | kwargs for label, kwargs in _ONE_BY_ONE.items()} | {
    "conv-transpose1d-padding-beyond-kernel": _C | {"spatial": (7,), "padding": 3},
    "conv-transpose1d-output-padding": _C | {"spatial": (5,), "stride": 3, "output_padding": 2},
    "conv-transpose1d-all": _C | {"spatial": (5,)} | _ALL_1D | {"output_padding": 1},
    "conv-transpose2d-all": _C | {"spatial": (4, 5)} | _ALL_2D | {"output_padding": (1, 0)},
    "conv-transpose3d-all": _C | {"spatial": (3, 4, 2)} | _ALL_3D | {"output_padding": (0, 1, 0)},
}

POOLS = {
    f"{name.lower()}-pool{dims}d-{label}": functools.partial(_pool, name, (7, 6, 5)[:dims], **kwargs)
    for name in ("Max", "Avg")
    for label, spatial_dims, kwargs in (
        ("overlap", (1, 2, 3), {"kernel_size": 3, "stride": 1}),
        ("padding", (1, 2, 3), {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("per-axis", (2,), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    )
    for dims in spatial_dims
}

CASES: dict[str, Callable[[], Case]] = (
    {name: functools.partial(_conv, "Conv", **kwargs) for name, kwargs in CONVOLUTIONS.items()}
    | {name: functools.partial(_conv, "ConvTranspose", **kwargs) for name, kwargs in TRANSPOSED.items()}
    | POOLS
    | {
        # Only where the target divides the size: elsewhere PyTorch's windows overlap.
        f"adaptive-{name.lower()}-pool{len(spatial)}d": functools.partial(_adaptive_pool, name, target, spatial)
        for name in ("Max", "Avg")
        for target, spatial in ((3, (6,)), ((3, 2), (6, 6)), ((1, 3, 2), (4, 3, 4)))
    }
    | {
        # Not for means: PyTorch divides those of windows that are cut off by fewer entries.
        "max-pool2d-ceil": functools.partial(_pool, "Max", (5, 7), use_ceil=True, kernel_size=2, stride=2),
        "linear": functools.partial(_linear, 3, 5),
        "linear-no-bias": functools.partial(_linear, 3, 5, bias=False),
        "layer-norm": functools.partial(_layer_norm, (5,)),
        "layer-norm-2d": functools.partial(_layer_norm, (3, 4)),
        "layer-norm-no-bias": functools.partial(_layer_norm, (5,), bias=False),
        "layer-norm-no-affine": functools.partial(_layer_norm, (5,), weight=False, bias=False),
        "rms-norm": functools.partial(_rms_norm, (5,)),
        "rms-norm-2d": functools.partial(_rms_norm, (3, 4)),
        "rms-norm-no-affine": functools.partial(_rms_norm, (5,), weight=False),
        "group-norm": functools.partial(_group_norm, 2, 6, (4, 3)),
        "group-norm-one-group": functools.partial(_group_norm, 1, 6, (5,)),
        "group-norm-instance": functools.partial(_group_norm, 6, 6, (5,)),
        "group-norm-no-affine": functools.partial(_group_norm, 2, 6, (4, 3), affine=False),
        "batch-norm": _batch_norm,
        "batch-norm-no-affine": functools.partial(_batch_norm, affine=False),
        "lstm-cell": _lstm_cell,
        "lstm-cell-no-bias": functools.partial(_lstm_cell, bias=False),
        "gru-cell": _gru_cell,
        "gru-cell-no-bias": functools.partial(_gru_cell, bias=False),
        "embedding": _embedding,
        "prelu": functools.partial(_prelu, 1, ()),
        "prelu-per-channel": functools.partial(_prelu, 3, (3, 1)),
        "dropout-inference": _dropout,
    }
    | {
        f"attention-{label}-{implementation}": functools.partial(_attention, implementation=implementation, **kwargs)
        for implementation in ("auto", "chunked", "xla")
        for label, kwargs in (
            ("self", {}),
            ("no-bias", {"bias": False}),
            ("cross", {"queries": 3, "keys": 5, "key_size": 5, "value_size": 6}),
            ("mask", {"queries": 3, "keys": 5, "mask": _mask(3, 5)}),
            ("mask-per-head", {"mask": _mask(2, 4, 4)}),
            ("causal-cross", {"queries": 3, "keys": 5, "is_causal": True}),
            ("causal-and-mask", {"mask": _mask(4, 4), "is_causal": True}),
            # Longer than one chunk of queries, and not a multiple of it.
            ("long", {"queries": 150, "keys": 150, "mask": _mask(150, 150), "is_causal": True}),
        )
    }
)


# PyTorch remarks that this case takes it a copy of the input.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_output_and_gradients_are_pytorchs(name):
    _assert_same(CASES[name]())


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_in_inference_is_pytorchs_by_the_same_statistics(affine):
    layer, state, module = _batch_norms(affine)
    batches = np.random.default_rng(2).standard_normal((3, 4, 3, 2, 5), dtype=np.float32) * 2 + 1
    for batch in batches:
        _, state = _normalised(layer, jnp.asarray(batch), state)
        module(torch.tensor(batch))
    # The definitions differ in two ways. Theirs divides the variance of a batch of `count` numbers by `count - 1`, ours
    # by `count` as in training. And ours divides by the sum of the weights of the batches seen, which tends to 1, to
    # undo the start from mean 0; theirs does not. (Both count in the variance 1 that they start from.)
    count, start = batches[0, :, 0].size, 0.75 ** len(batches)
    with torch.no_grad():
        module.running_mean /= 1 - start
        variance = (module.running_var - start) * (count - 1) / count
        module.running_var.copy_((variance + start) / (1 - start))
    layer = eqx_nn.inference_mode(layer)
    case = Case(layer, module.eval(), ((4, 3, 2, 5),), ours=lambda layer, x: _normalised(layer, x, state)[0])
    _assert_same(case)
