"""Topic 6: trace, lower and compile time of a 24-layer transformer (forward + grad)."""

import time

import jax
import jax.numpy as jnp
import models
from timing import compare_once, eqx_likes, note, optional

DEPTH, DIM, SEQ = 24, 64, 16


def main():
    x = jnp.ones((SEQ, DIM))
    fns = {}
    for name, eqx in eqx_likes():
        m = models.transformer(eqx, DEPTH, DIM, 4)
        p, s = eqx.partition(m, eqx.is_array)
        fns[f"{name} python loop"] = (lambda p, x, s=s, e=eqx: (e.combine(p, s)(x) ** 2).mean(), p)

        # scan over stacked equinox blocks
        _block_p, block_s = eqx.partition(m.blocks[0], eqx.is_array)
        stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *[eqx.partition(b, eqx.is_array)[0] for b in m.blocks])

        def scan(pp, x, s=block_s, e=eqx, norm=m.norm):
            f = lambda c, bp: (e.combine(bp, s)(c), None)
            y, _ = jax.lax.scan(f, x, pp)
            return (jax.vmap(norm)(y) ** 2).mean()

        fns[f"{name} scan over blocks"] = (scan, stacked)
    p = models.transformer_params(DEPTH, DIM)
    fns["raw jax python loop"] = (lambda p, x: (models.raw_transformer(p, x, 4) ** 2).mean(), p)
    ps = models.transformer_params(DEPTH, DIM, stacked=True)
    fns["raw jax scan"] = (lambda p, x: (models.raw_transformer_scan(p, x, 4) ** 2).mean(), ps)
    if optional("flax"):
        from flax import nnx

        gd, st = nnx.split(models.transformer_nnx(DEPTH, DIM, 4))
        fns["nnx python loop"] = (lambda st, x: (nnx.merge(gd, st)(x[None])[0] ** 2).mean(), st)
    if optional("haiku"):
        f = models.transformer_haiku(DEPTH, DIM, 4)
        hp = f.init(jax.random.PRNGKey(0), x)
        fns["haiku python loop"] = (lambda p, x: (f.apply(p, x) ** 2).mean(), hp)

    stages = {k: {"trace": [], "lower": [], "compile": []} for k in fns}
    sizes = {}

    def runner(name):
        fn, params = fns[name]

        def go():
            jax.clear_caches()
            f = jax.jit(jax.value_and_grad(lambda p, x: fn(p, x)))
            t0 = time.perf_counter()
            tr = f.trace(params, x)
            t1 = time.perf_counter()
            lo = tr.lower()
            t2 = time.perf_counter()
            lo.compile()
            t3 = time.perf_counter()
            for k, v in zip(("trace", "lower", "compile"), (t1 - t0, t2 - t1, t3 - t2), strict=True):
                stages[name][k].append(v)
            sizes[name] = (len(tr.jaxpr.eqns), len(lo.as_text().splitlines()))
            return t3 - t0

        return go

    base = "equinox python loop"
    compare_once("trace+lower+compile, value_and_grad", {k: runner(k) for k in fns}, base=base, rounds=5)
    from timing import report

    for stage in ("trace", "lower", "compile"):
        report(f"  of which {stage}", {k: v[stage] for k, v in stages.items()}, base=base, unit="ms")
    for k, (e, l) in sizes.items():
        note("program size", contender=k, jaxpr_eqns=e, stablehlo_lines=l)

    # the wrapper's own cost: filter_jit(filter_value_and_grad(f)) against the above
    cases = {}
    for name, eqx in eqx_likes():
        m = models.transformer(eqx, DEPTH, DIM, 4)

        def go(eqx=eqx, m=m):
            jax.clear_caches()
            f = eqx.filter_jit(eqx.filter_value_and_grad(lambda m, x: (m(x) ** 2).mean()))
            t = time.perf_counter()
            f.lower(m, x)
            return time.perf_counter() - t

        def go2(eqx=eqx, m=m):
            jax.clear_caches()
            p, s = eqx.partition(m, eqx.is_array)
            f = jax.jit(jax.value_and_grad(lambda p, x: (eqx.combine(p, s)(x) ** 2).mean()))
            t = time.perf_counter()
            f.lower(p, x)
            return time.perf_counter() - t

        cases[f"{name} filter_jit.lower"] = go
        cases[f"{name} jax.jit.lower"] = go2
    compare_once("filter_jit(filter_value_and_grad).lower", cases, rounds=5)
