"""Topic 8: steady-state layer runtime on CPU, forward and forward+backward, jitted.

All JAX contenders run as jax.jit of a pure function of (params, x), so call overhead is
the same and only the program differs.
"""

import jax
import jax.numpy as jnp
import numpy as np
from timing import compare, eqx_likes, note, optional

KEY = jax.random.PRNGKey(0)


def normal(*shape):
    return jax.random.normal(KEY, shape, jnp.float32)


CASES = {
    # name -> (input, sizes)
    "Linear b256 1024-1024": normal(256, 1024),
    "Conv2d b8 32-64 k3 64x64": normal(8, 32, 64, 64),
    "MHA seq512 d256 h8": normal(512, 256),
    "MHA seq2048 d256 h8": normal(2048, 256),
    "LSTMCell scan T256 b32 64-128": normal(256, 32, 64),
    "LayerNorm 512x1024": normal(512, 1024),
    "BatchNorm b64 c64 16x16": normal(64, 64, 16, 16),
    "MLP b256 512x3": normal(256, 512),
}


def _eqx_fns(eqx):
    nn = eqx.nn

    def part(m):
        p, s = eqx.partition(m, eqx.is_inexact_array)
        return p, lambda p: eqx.combine(p, s)

    out = {}
    p, c = part(nn.Linear(1024, 1024, key=KEY))
    out["Linear b256 1024-1024"] = (p, lambda p, x, c=c: jax.vmap(c(p))(x))
    p, c = part(nn.Conv2d(32, 64, 3, padding=1, key=KEY))
    out["Conv2d b8 32-64 k3 64x64"] = (p, lambda p, x, c=c: jax.vmap(c(p))(x))
    for n in ("MHA seq512 d256 h8", "MHA seq2048 d256 h8"):
        m = nn.MultiheadAttention(
            8,
            256,
            use_query_bias=True,
            use_key_bias=True,
            use_value_bias=True,
            use_output_bias=True,
            key=KEY,
        )
        p, c = part(m)
        out[n] = (p, lambda p, x, c=c: c(p)(x, x, x))
    p, c = part(nn.LSTMCell(64, 128, key=KEY))

    def lstm(p, x, c=c):
        cell = jax.vmap(c(p))
        z = jnp.zeros((32, 128))
        step = lambda s, xt: (cell(xt, s), None)
        (h, _), _ = jax.lax.scan(step, (z, z), x)
        return h

    out["LSTMCell scan T256 b32 64-128"] = (p, lstm)
    p, c = part(nn.LayerNorm(1024))
    out["LayerNorm 512x1024"] = (p, lambda p, x, c=c: jax.vmap(c(p))(x))
    try:
        bn, state = nn.make_with_state(nn.BatchNorm)(64, axis_name="b", mode="batch")
    except TypeError:
        bn, state = nn.make_with_state(nn.BatchNorm)(64, axis_name="b")
    p, c = part(bn)

    def bnf(p, x, c=c):
        y, _st = jax.vmap(c(p), axis_name="b", in_axes=(0, None), out_axes=(0, None))(x, state)
        return y

    out["BatchNorm b64 c64 16x16"] = (p, bnf)
    p, c = part(nn.MLP(512, 512, 512, 2, key=KEY))
    out["MLP b256 512x3"] = (p, lambda p, x, c=c: jax.vmap(c(p))(x))
    return out


def _raw_fns():
    """Straight jnp on batched arrays: what a hand-written program does."""
    lin = lambda i, o: {"w": normal(i, o) * 0.02, "b": jnp.zeros(o)}
    ap = lambda p, x: x @ p["w"] + p["b"]
    out = {"Linear b256 1024-1024": (lin(1024, 1024), ap)}
    out["Conv2d b8 32-64 k3 64x64"] = (
        {"w": normal(64, 32, 3, 3) * 0.02, "b": jnp.zeros((64, 1, 1))},
        lambda p, x: jax.lax.conv_general_dilated(x, p["w"], (1, 1), "SAME") + p["b"],
    )

    def mha(p, x):
        s = x.shape[0]
        q, k, v = (ap(p[n], x).reshape(s, 8, 32) for n in "qkv")
        l = jnp.einsum("qhd,khd->hqk", q, k) / 32**0.5
        return ap(p["o"], jnp.einsum("hqk,khd->qhd", jax.nn.softmax(l, -1), v).reshape(s, 256))

    for n in ("MHA seq512 d256 h8", "MHA seq2048 d256 h8"):
        out[n] = ({k: lin(256, 256) for k in "qkvo"}, mha)

    def lstm(p, x):
        # the input projection of all steps at once, outside the scan
        xs = x @ p["wx"] + p["b"]

        def step(s, xt):
            h, c = s
            i, f, g, o = jnp.split(xt + h @ p["wh"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), None

        z = jnp.zeros((32, 128))
        return jax.lax.scan(step, (z, z), xs)[0][0]

    out["LSTMCell scan T256 b32 64-128"] = (
        {"wx": normal(64, 512) * 0.05, "wh": normal(128, 512) * 0.05, "b": jnp.zeros(512)},
        lstm,
    )

    def ln(p, x):
        m = x.mean(-1, keepdims=True)
        v = ((x - m) ** 2).mean(-1, keepdims=True)
        return (x - m) * jax.lax.rsqrt(v + 1e-5) * p["g"] + p["b"]

    out["LayerNorm 512x1024"] = ({"g": jnp.ones(1024), "b": jnp.zeros(1024)}, ln)

    def bn(p, x):
        m = x.mean((0, 2, 3), keepdims=True)
        v = (x * x).mean((0, 2, 3), keepdims=True) - m * m
        sc = p["g"][:, None, None] * jax.lax.rsqrt(v + 1e-5)
        return x * sc + (p["b"][:, None, None] - m * sc)

    out["BatchNorm b64 c64 16x16"] = ({"g": jnp.ones(64), "b": jnp.zeros(64)}, bn)

    def mlp(p, x):
        return ap(p[2], jax.nn.relu(ap(p[1], jax.nn.relu(ap(p[0], x)))))

    out["MLP b256 512x3"] = ([lin(512, 512) for _ in range(3)], mlp)
    return out


def _nnx_fns():
    from flax import nnx

    r = nnx.Rngs(0)
    out = {}

    def pure(m, call):
        gd, p, rest = nnx.split(m, nnx.Param, ...)
        return p, lambda p, x: call(nnx.merge(gd, p, rest, copy=True), x)

    out["Linear b256 1024-1024"] = pure(nnx.Linear(1024, 1024, rngs=r), lambda m, x: m(x))
    nhwc = lambda m, x: m(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    out["Conv2d b8 32-64 k3 64x64"] = pure(nnx.Conv(32, 64, (3, 3), rngs=r), nhwc)
    for n in ("MHA seq512 d256 h8", "MHA seq2048 d256 h8"):
        m = nnx.MultiHeadAttention(num_heads=8, in_features=256, qkv_features=256, decode=False, rngs=r)
        out[n] = pure(m, lambda m, x: m(x[None])[0])

    def lstm(m, x):
        z = jnp.zeros((32, 128))
        # merged modules hold arrays of this trace, so scan closes over them
        return jax.lax.scan(lambda s, xt: (m(s, xt)[0], None), (z, z), x)[0][1]

    out["LSTMCell scan T256 b32 64-128"] = pure(nnx.LSTMCell(64, 128, rngs=r), lstm)
    out["LayerNorm 512x1024"] = pure(nnx.LayerNorm(1024, rngs=r), lambda m, x: m(x))
    out["BatchNorm b64 c64 16x16"] = pure(nnx.BatchNorm(64, use_running_average=False, rngs=r), nhwc)

    class MLP(nnx.Module):
        def __init__(self):
            self.a, self.b, self.c = (nnx.Linear(512, 512, rngs=r) for _ in range(3))

        def __call__(self, x):
            return self.c(jax.nn.relu(self.b(jax.nn.relu(self.a(x)))))

    out["MLP b256 512x3"] = pure(MLP(), lambda m, x: m(x))
    return out


def _hk_fns():
    import haiku as hk

    out = {}

    def add(n, f):
        t = hk.without_apply_rng(hk.transform_with_state(f))
        p, s = t.init(KEY, CASES[n])
        out[n] = (p, lambda p, x: t.apply(p, s, x)[0])

    add("Linear b256 1024-1024", lambda x: hk.Linear(1024)(x))
    add("Conv2d b8 32-64 k3 64x64", lambda x: hk.Conv2D(64, 3, data_format="NCHW")(x))
    init = hk.initializers.VarianceScaling(1.0)
    for n in ("MHA seq512 d256 h8", "MHA seq2048 d256 h8"):
        add(n, lambda x: hk.MultiHeadAttention(8, 32, w_init=init, model_size=256)(x, x, x))

    def lstm(x):
        core = hk.LSTM(128)
        _, s = hk.dynamic_unroll(core, x, core.initial_state(32))
        return s.hidden

    add("LSTMCell scan T256 b32 64-128", lstm)
    add("LayerNorm 512x1024", lambda x: hk.LayerNorm(-1, True, True)(x))
    add(
        "BatchNorm b64 c64 16x16",
        lambda x: hk.BatchNorm(True, True, 0.9, data_format="NC...")(x, True),
    )
    add("MLP b256 512x3", lambda x: hk.nets.MLP([512, 512, 512])(x))
    return out


def _torch_fns():
    import torch

    torch.set_num_threads(2)
    nn = torch.nn

    class MHA(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.MultiheadAttention(256, 8, batch_first=True)

        def forward(self, x):
            x = x[None]
            return self.m(x, x, x, need_weights=False)[0][0]

    class LSTM(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.LSTMCell(64, 128)

        def forward(self, x):
            h = c = torch.zeros(32, 128)
            for xt in x:
                h, c = self.m(xt, (h, c))
            return h

    L = lambda: nn.Linear(512, 512)
    return {
        "Linear b256 1024-1024": nn.Linear(1024, 1024),
        "Conv2d b8 32-64 k3 64x64": nn.Conv2d(32, 64, 3, padding=1),
        "MHA seq512 d256 h8": MHA(),
        "MHA seq2048 d256 h8": MHA(),
        "LSTMCell scan T256 b32 64-128": LSTM(),
        "LayerNorm 512x1024": nn.LayerNorm(1024),
        "BatchNorm b64 c64 16x16": nn.BatchNorm2d(64),
        "MLP b256 512x3": nn.Sequential(L(), nn.ReLU(), L(), nn.ReLU(), L()),
    }


def main():
    makers = {name: (lambda m=m: _eqx_fns(m)) for name, m in eqx_likes()}
    makers["raw jax"] = _raw_fns
    if optional("flax"):
        makers["nnx"] = _nnx_fns
    if optional("haiku"):
        makers["haiku"] = _hk_fns
    fns = {k: v() for k, v in makers.items()}
    tfns = _torch_fns() if optional("torch") else {}
    measure(CASES, fns, tfns)


def measure(cases, fns, tfns):
    """Time every case, and note its memory, of each contender that has it.

    Args:
      cases: The input of each case.
      fns: By contender and case, the parameters and the function of parameters and input.
      tfns: The PyTorch module of a case.
    """
    for case, x in cases.items():
        fwd, bwd, mem = {}, {}, {}
        real = jnp.issubdtype(x.dtype, jnp.inexact)
        for name, table in fns.items():
            if case not in table:
                continue
            p, f = table[case]
            arguments = (0, 1) if real else 0
            g = lambda p, x, f=f, n=arguments: jax.value_and_grad(lambda p, x: (f(p, x) ** 2).mean(), n)(p, x)
            try:
                cf = jax.jit(f).lower(p, x).compile()
                cg = jax.jit(g).lower(p, x).compile()
            except Exception as e:
                print(f"  [skip] {name} {case}: {type(e).__name__} {str(e)[:150]}")
                continue
            fwd[name] = lambda c=cf, p=p: jax.block_until_ready(c(p, x))
            bwd[name] = lambda c=cg, p=p: jax.block_until_ready(c(p, x))
            a, b = cf.memory_analysis(), cg.memory_analysis()
            mem[name] = (a.temp_size_in_bytes, b.temp_size_in_bytes)
        if case in tfns:
            import torch

            m, tx = tfns[case], torch.from_numpy(np.array(x))
            txg = tx.clone().requires_grad_(real)

            def tf(m=m, tx=tx):
                with torch.no_grad():
                    m(tx)

            def tb(m=m, tx=txg):
                m.zero_grad(set_to_none=True)
                tx.grad = None
                (m(tx) ** 2).mean().backward()

            fwd["torch (2 threads)"], bwd["torch (2 threads)"] = tf, tb
        compare(f"{case}: forward", fwd, base="equinox", rounds=21, target=0.03)
        compare(f"{case}: forward+backward", bwd, base="equinox", rounds=21, target=0.05)
        for k, (a, b) in mem.items():
            note(
                f"{case}: XLA temp bytes",
                contender=k,
                fwd_MB=round(a / 1e6, 2),
                grad_MB=round(b / 1e6, 2),
            )
