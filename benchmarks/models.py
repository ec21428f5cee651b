"""The same models, written once per contender.

`eqx` parameters are any module with the Equinox API, so `equinox` and the new project
run the very same code.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu

# ---- n Linear-like modules ---------------------------------------------------------


def make_lin_class(eqx):
    class Lin(eqx.Module):
        weight: Any
        bias: Any
        in_features: int = eqx.field(static=True)
        out_features: int = eqx.field(static=True)

    return Lin


@jtu.register_dataclass
@dataclasses.dataclass(frozen=True)
class RawLin:
    weight: Any
    bias: Any
    in_features: int = dataclasses.field(metadata={"static": True})
    out_features: int = dataclasses.field(metadata={"static": True})


def _arr(i):
    return jnp.full((2,), float(i % 7), jnp.float32)


def lin_list(eqx, n):
    Lin = make_lin_class(eqx)
    a = _arr(1)
    return [Lin(a, a, 2, 2) for _ in range(n)]


def lin_list_raw(n):
    a = _arr(1)
    return [RawLin(a, a, 2, 2) for _ in range(n)]


def lin_list_dict(n):
    a = _arr(1)
    return [{"weight": a, "bias": a} for _ in range(n)]


def lin_list_nnx(n):
    from flax import nnx

    a = _arr(1)

    class NnxLin(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(a)
            self.bias = nnx.Param(a)
            self.in_features = 2
            self.out_features = 2

    class Stack(nnx.Module):
        def __init__(self):
            self.layers = nnx.List([NnxLin() for _ in range(n)])

    return Stack()


# ---- leaves-and-activations model for dispatch -------------------------------------


def make_mixed_class(eqx):
    class Layer(eqx.Module):
        weight: Any
        bias: Any
        activation: Any  # a non-array leaf
        size: int = eqx.field(static=True)

    class Mixed(eqx.Module):
        layers: Any

    return Layer, Mixed


def mixed(eqx, n_arrays):
    """A model with `n_arrays` array leaves and half as many function leaves."""
    Layer, Mixed = make_mixed_class(eqx)
    return Mixed([Layer(_arr(i), _arr(i), jax.nn.relu, 2) for i in range(n_arrays // 2)])


def mixed_dict(n_arrays):
    return {"layers": [{"weight": _arr(i), "bias": _arr(i)} for i in range(n_arrays // 2)]}


@jtu.register_dataclass
@dataclasses.dataclass(frozen=True)
class RawLayer:
    weight: Any
    bias: Any
    activation: Any = dataclasses.field(metadata={"static": True})
    size: int = dataclasses.field(metadata={"static": True})


def mixed_raw(n_arrays):
    return {"layers": [RawLayer(_arr(i), _arr(i), jax.nn.relu, 2) for i in range(n_arrays // 2)]}


def mixed_nnx(n_arrays):
    from flax import nnx

    class L(nnx.Module):
        def __init__(self, i):
            self.weight = nnx.Param(_arr(i))
            self.bias = nnx.Param(_arr(i))
            self.activation = jax.nn.relu
            self.size = 2

    class M(nnx.Module):
        def __init__(self):
            self.layers = nnx.List([L(i) for i in range(n_arrays // 2)])

    return M()


# ---- transformer -------------------------------------------------------------------


def transformer(eqx, depth=24, dim=16, heads=2, *, key=None):
    key = jr.PRNGKey(0) if key is None else key

    class Block(eqx.Module):
        norm1: Any
        attn: Any
        norm2: Any
        mlp: Any

        def __init__(self, key):
            k1, k2 = jr.split(key)
            self.norm1 = eqx.nn.LayerNorm(dim)
            self.attn = eqx.nn.MultiheadAttention(
                heads,
                dim,
                use_query_bias=True,
                use_key_bias=True,
                use_value_bias=True,
                use_output_bias=True,
                key=k1,
            )
            self.norm2 = eqx.nn.LayerNorm(dim)
            self.mlp = eqx.nn.MLP(dim, dim, 4 * dim, 1, activation=jax.nn.gelu, key=k2)

        def __call__(self, x):
            h = jax.vmap(self.norm1)(x)
            x = x + self.attn(h, h, h)
            return x + jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))

    class Transformer(eqx.Module):
        blocks: list
        norm: Any

        def __init__(self, key):
            self.blocks = [Block(k) for k in jr.split(key, depth)]
            self.norm = eqx.nn.LayerNorm(dim)

        def __call__(self, x):
            for b in self.blocks:
                x = b(x)
            return jax.vmap(self.norm)(x)

    return Transformer(key)


def transformer_params(depth=24, dim=16, *, stacked=False):
    """The raw-jax twin: a dict of arrays (optionally stacked along layers)."""

    def block(key):
        ks = jr.split(key, 6)
        lin = lambda k, i, o: {"w": jr.normal(k, (o, i)) / i**0.5, "b": jnp.zeros((o,))}
        return {
            "norm1": {"g": jnp.ones(dim), "b": jnp.zeros(dim)},
            "q": lin(ks[0], dim, dim),
            "k": lin(ks[1], dim, dim),
            "v": lin(ks[2], dim, dim),
            "o": lin(ks[3], dim, dim),
            "norm2": {"g": jnp.ones(dim), "b": jnp.zeros(dim)},
            "up": lin(ks[4], dim, 4 * dim),
            "down": lin(ks[5], 4 * dim, dim),
        }

    blocks = [block(k) for k in jr.split(jr.PRNGKey(0), depth)]
    if stacked:
        blocks = jax.tree.map(lambda *xs: jnp.stack(xs), *blocks)
    return {"blocks": blocks, "norm": {"g": jnp.ones(dim), "b": jnp.zeros(dim)}}


def _ln(p, x):
    m = x.mean(-1, keepdims=True)
    v = ((x - m) ** 2).mean(-1, keepdims=True)
    return (x - m) * jax.lax.rsqrt(v + 1e-5) * p["g"] + p["b"]


def _lin(p, x):
    return x @ p["w"].T + p["b"]


def raw_block(p, x, heads=2):
    h = _ln(p["norm1"], x)
    s, d = h.shape
    q, k, v = (_lin(p[n], h).reshape(s, heads, d // heads) for n in "qkv")
    logits = jnp.einsum("qhd,khd->hqk", q, k) / (d // heads) ** 0.5
    a = jnp.einsum("hqk,khd->qhd", jax.nn.softmax(logits, -1), v).reshape(s, d)
    x = x + _lin(p["o"], a)
    return x + _lin(p["down"], jax.nn.gelu(_lin(p["up"], _ln(p["norm2"], x))))


def raw_transformer(p, x, heads=2):
    for b in p["blocks"]:
        x = raw_block(b, x, heads)
    return _ln(p["norm"], x)


def raw_transformer_scan(p, x, heads=2):
    x, _ = jax.lax.scan(lambda c, b: (raw_block(b, c, heads), None), x, p["blocks"])
    return _ln(p["norm"], x)


def transformer_nnx(depth=24, dim=16, heads=2):
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.norm1 = nnx.LayerNorm(dim, rngs=rngs)
            self.attn = nnx.MultiHeadAttention(
                num_heads=heads, in_features=dim, qkv_features=dim, decode=False, rngs=rngs
            )
            self.norm2 = nnx.LayerNorm(dim, rngs=rngs)
            self.up = nnx.Linear(dim, 4 * dim, rngs=rngs)
            self.down = nnx.Linear(4 * dim, dim, rngs=rngs)

        def __call__(self, x):
            x = x + self.attn(self.norm1(x))
            return x + self.down(jax.nn.gelu(self.up(self.norm2(x))))

    class Transformer(nnx.Module):
        def __init__(self, rngs):
            self.blocks = nnx.List([Block(rngs) for _ in range(depth)])
            self.norm = nnx.LayerNorm(dim, rngs=rngs)

        def __call__(self, x):
            for b in self.blocks:
                x = b(x)
            return self.norm(x)

    return Transformer(nnx.Rngs(0))


def transformer_haiku(depth=24, dim=16, heads=2):
    """-> (init, apply) of a pure haiku function."""
    import haiku as hk

    def fn(x):
        ln = lambda: hk.LayerNorm(-1, create_scale=True, create_offset=True)
        init = hk.initializers.VarianceScaling(1.0)
        for _ in range(depth):
            h = ln()(x)
            x = x + hk.MultiHeadAttention(heads, dim // heads, w_init=init, model_size=dim)(h, h, h)
            x = x + hk.Linear(dim)(jax.nn.gelu(hk.Linear(4 * dim)(ln()(x))))
        return ln()(x)

    return hk.without_apply_rng(hk.transform(fn))
