"""Topic 8, continued: the layers that `t08_layers.py` leaves out."""

import math

import jax
import jax.numpy as jnp
from t08_layers import KEY, measure, normal
from timing import eqx_likes, optional

CONV1D = "Conv1d b8 64-64 k3 1024"
TRANSPOSE = "ConvTranspose2d b8 64-32 k4 s2 32x32"
RMS = "RMSNorm 512x1024"
GROUP = "GroupNorm b64 c64 g8 16x16"
SPECTRAL = "SpectralNorm of Linear b256 512-512"
WEIGHT = "WeightNorm of Linear b256 512-512"
GRU = "GRUCell scan T256 b32 64-128"
EMBEDDING = "Embedding 10000x256, 4096 indices"
ROPE = "RoPE seq2048 d64"
DROPOUT = "Dropout 512x1024"
MAX = "MaxPool2d b8 c64 k2 s2 64x64"
AVG = "AvgPool2d b8 c64 k2 s2 64x64"
ADAPTIVE_AVG = "AdaptiveAvgPool2d b8 c64 64x64 to 7x7"
ADAPTIVE_MAX = "AdaptiveMaxPool2d b8 c64 64x64 to 7x7"

CASES = {
    CONV1D: normal(8, 64, 1024),
    TRANSPOSE: normal(8, 64, 32, 32),
    RMS: normal(512, 1024),
    GROUP: normal(64, 64, 16, 16),
    SPECTRAL: normal(256, 512),
    WEIGHT: normal(256, 512),
    GRU: normal(256, 32, 64),
    EMBEDDING: jax.random.randint(KEY, (4096,), 0, 10_000),
    ROPE: normal(2048, 64),
    DROPOUT: normal(512, 1024),
    MAX: normal(8, 64, 64, 64),
    AVG: normal(8, 64, 64, 64),
    ADAPTIVE_AVG: normal(8, 64, 64, 64),
    ADAPTIVE_MAX: normal(8, 64, 64, 64),
}


def _steps(step, x):
    """Run a cell of one state over a sequence."""
    return jax.lax.scan(lambda h, xt: (step(h, xt), None), jnp.zeros((32, 128)), x)[0]


def _eqx_fns(eqx):
    nn = eqx.nn

    def pure(m, call=lambda m, x: jax.vmap(m)(x)):
        p, s = eqx.partition(m, eqx.is_inexact_array)
        return p, lambda p, x: call(eqx.combine(p, s), x)

    spectral, state = nn.make_with_state(
        lambda: nn.SpectralNorm(nn.Linear(512, 512, key=KEY), weight_name="weight", key=KEY)
    )()
    return {
        CONV1D: pure(nn.Conv1d(64, 64, 3, padding=1, key=KEY)),
        TRANSPOSE: pure(nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1, key=KEY)),
        RMS: pure(nn.RMSNorm(1024)),
        GROUP: pure(nn.GroupNorm(8, 64)),
        SPECTRAL: pure(spectral, lambda m, x: jax.vmap(m, in_axes=(0, None), out_axes=(0, None))(x, state)[0]),
        WEIGHT: pure(nn.WeightNorm(nn.Linear(512, 512, key=KEY))),
        GRU: pure(nn.GRUCell(64, 128, key=KEY), lambda m, x: _steps(lambda h, xt: jax.vmap(m)(xt, h), x)),
        EMBEDDING: pure(nn.Embedding(10_000, 256, key=KEY)),
        ROPE: pure(nn.RotaryPositionalEmbedding(64), lambda m, x: m(x)),
        DROPOUT: pure(nn.Dropout(0.5), lambda m, x: m(x, key=KEY)),
        MAX: pure(nn.MaxPool2d(2, 2)),
        AVG: pure(nn.AvgPool2d(2, 2)),
        ADAPTIVE_AVG: pure(nn.AdaptiveAvgPool2d(7)),
        ADAPTIVE_MAX: pure(nn.AdaptiveMaxPool2d(7)),
    }


def _raw_fns():
    """Straight jnp on batched arrays."""
    scale = {"g": jnp.ones(1024), "b": jnp.zeros(1024)}
    channels = {"g": jnp.ones((64, 1, 1)), "b": jnp.zeros((64, 1, 1))}
    linear = {"w": normal(512, 512) * 0.02, "g": jnp.ones(512), "b": jnp.zeros(512)}
    cell = {"wi": normal(64, 384) * 0.05, "wh": normal(128, 384) * 0.05, "b": jnp.zeros(384), "n": jnp.zeros(128)}

    def group(p, x):
        y = x.reshape(64, 8, -1)
        mean = y.mean(-1, keepdims=True)
        y = (y - mean) * jax.lax.rsqrt(((y - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
        return y.reshape(x.shape) * p["g"] + p["b"]

    def gru(p, x):
        def step(h, xt):
            ir, iz, new = jnp.split(xt @ p["wi"] + p["b"], 3, -1)
            hr, hz, hn = jnp.split(h @ p["wh"], 3, -1)
            new = jnp.tanh(new + jax.nn.sigmoid(ir + hr) * (hn + p["n"]))
            return new + jax.nn.sigmoid(iz + hz) * (h - new)

        return _steps(step, x)

    def rope(p, x):
        angles = jnp.arange(2048.0)[:, None] / 10_000 ** (jnp.arange(0.0, 64, 2) / 64)
        a, b = jnp.split(x, 2, -1)
        return jnp.concatenate(
            [a * jnp.cos(angles) - b * jnp.sin(angles), b * jnp.cos(angles) + a * jnp.sin(angles)], -1
        )

    window = ((1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return {
        RMS: (scale, lambda p, x: x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p["g"] + p["b"]),
        GROUP: (channels, group),
        WEIGHT: (linear, lambda p, x: x @ (p["w"] * (p["g"] / jnp.linalg.norm(p["w"], axis=0))) + p["b"]),
        GRU: (cell, gru),
        EMBEDDING: ({"w": normal(10_000, 256)}, lambda p, x: p["w"][x]),
        ROPE: ({}, rope),
        DROPOUT: ({}, lambda p, x: jnp.where(jax.random.bernoulli(KEY, 0.5, x.shape), x / 0.5, 0)),
        MAX: ({}, lambda p, x: jax.lax.reduce_window(x, -math.inf, jax.lax.max, *window)),
        AVG: ({}, lambda p, x: jax.lax.reduce_window(x, 0.0, jax.lax.add, *window) / 4),
    }


def _nnx_fns():
    from flax import nnx

    r = nnx.Rngs(0)

    def pure(m, call=lambda m, x: m(x)):
        gd, p, rest = nnx.split(m, nnx.Param, ...)
        return p, lambda p, x: call(nnx.merge(gd, p, rest, copy=True), x)

    last = lambda m, x: jnp.moveaxis(m(jnp.moveaxis(x, 1, -1)), -1, 1)
    pool = lambda f: ({}, lambda p, x: last(lambda x: f(x, (2, 2), (2, 2)), x))
    return {
        CONV1D: pure(nnx.Conv(64, 64, 3, rngs=r), last),
        TRANSPOSE: pure(nnx.ConvTranspose(64, 32, (4, 4), strides=2, rngs=r), last),
        RMS: pure(nnx.RMSNorm(1024, rngs=r)),
        GROUP: pure(nnx.GroupNorm(64, num_groups=8, rngs=r), last),
        GRU: pure(nnx.GRUCell(64, 128, rngs=r), lambda m, x: _steps(lambda h, xt: m(h, xt)[0], x)),
        EMBEDDING: pure(nnx.Embed(10_000, 256, rngs=r)),
        DROPOUT: pure(nnx.Dropout(0.5, deterministic=False), lambda m, x: m(x, rngs=KEY)),
        MAX: pool(nnx.max_pool),
        AVG: pool(nnx.avg_pool),
    }


def _hk_fns():
    import haiku as hk

    def pure(case, f):
        t = hk.without_apply_rng(hk.transform(f))
        return t.init(KEY, CASES[case]), t.apply

    table = {
        CONV1D: lambda x: hk.Conv1D(64, 3, data_format="NCW")(x),
        TRANSPOSE: lambda x: hk.Conv2DTranspose(32, 4, 2, data_format="NCHW")(x),
        RMS: lambda x: hk.RMSNorm(-1)(x),
        GROUP: lambda x: hk.GroupNorm(8, data_format="channels_first")(x),
        GRU: lambda x: hk.dynamic_unroll(hk.GRU(128), x, jnp.zeros((32, 128)))[1],
        EMBEDDING: lambda x: hk.Embed(10_000, 256)(x),
        DROPOUT: lambda x: hk.dropout(KEY, 0.5, x),
        MAX: lambda x: hk.max_pool(x, (1, 1, 2, 2), (1, 1, 2, 2), "VALID", channel_axis=None),
        AVG: lambda x: hk.avg_pool(x, (1, 1, 2, 2), (1, 1, 2, 2), "VALID", channel_axis=None),
    }
    return {case: pure(case, f) for case, f in table.items()}


def _torch_fns():
    import torch

    torch.set_num_threads(2)
    nn = torch.nn

    class GRUs(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(64, 128)

        def forward(self, x):
            h = torch.zeros(32, 128)
            for xt in x:
                h = self.cell(xt, h)
            return h

    return {
        CONV1D: nn.Conv1d(64, 64, 3, padding=1),
        TRANSPOSE: nn.ConvTranspose2d(64, 32, 4, 2, 1),
        RMS: nn.RMSNorm(1024),
        GROUP: nn.GroupNorm(8, 64),
        SPECTRAL: nn.utils.parametrizations.spectral_norm(nn.Linear(512, 512)),
        WEIGHT: nn.utils.parametrizations.weight_norm(nn.Linear(512, 512)),
        GRU: GRUs(),
        EMBEDDING: nn.Embedding(10_000, 256),
        DROPOUT: nn.Dropout(0.5),
        MAX: nn.MaxPool2d(2, 2),
        AVG: nn.AvgPool2d(2, 2),
        ADAPTIVE_AVG: nn.AdaptiveAvgPool2d(7),
        ADAPTIVE_MAX: nn.AdaptiveMaxPool2d(7),
    }


def main():
    fns = {name: _eqx_fns(library) for name, library in eqx_likes()}
    fns["raw jax"] = _raw_fns()
    if optional("flax"):
        fns["nnx"] = _nnx_fns()
    if optional("haiku"):
        fns["haiku"] = _hk_fns()
    measure(CASES, fns, _torch_fns() if optional("torch") else {})
