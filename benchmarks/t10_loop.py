"""Topic 10: reverse-mode through 10,000 steps: checkpointed while_loop vs scan."""

import time

import jax
import jax.numpy as jnp
from timing import compare, eqx_likes, note, optional

STEPS = 10_000
DIM = 64


def main():
    w = jax.random.normal(jax.random.PRNGKey(0), (DIM, DIM)) / DIM**0.5
    y0 = jnp.ones(DIM)
    body = lambda w, y: jnp.tanh(w @ y) + 0.1 * y
    fns = {}

    def scan(w, y, wrap=lambda f: f):
        f = wrap(lambda y, _: (body(w, y), None))
        return jax.lax.scan(f, y, None, length=STEPS)[0]

    fns["lax.scan, no remat"] = scan
    fns["lax.scan, checkpoint(body)"] = lambda w, y: scan(w, y, jax.checkpoint)

    def nested(w, y):
        inner = lambda y, _: (
            jax.lax.scan(lambda y, _: (body(w, y), None), y, None, length=100)[0],
            None,
        )
        return jax.lax.scan(jax.checkpoint(inner), y, None, length=STEPS // 100)[0]

    fns["lax.scan, sqrt-nested checkpoint"] = nested

    def nested3(w, y):
        # 22^3 > 10k would need masking; 20*20*25 = 10k exactly
        one = lambda y, _: (body(w, y), None)
        l1 = jax.checkpoint(lambda y, _: (jax.lax.scan(one, y, None, length=25)[0], None))
        l2 = jax.checkpoint(lambda y, _: (jax.lax.scan(l1, y, None, length=20)[0], None))
        return jax.lax.scan(l2, y, None, length=20)[0]

    fns["lax.scan, 3-level checkpoint"] = nested3
    for name in ["equinox"] + [n for n, _ in eqx_likes() if n != "equinox"]:
        internal = optional(f"{name}.internal")
        if internal is None:
            continue

        def loop(w, y, eqxi=internal, checkpoints=None, kind="checkpointed"):
            cond = lambda c: c[0] < STEPS
            step = lambda c: (c[0] + 1, body(w, c[1]))
            kw = {"max_steps": STEPS, "kind": kind}
            if kind == "checkpointed":
                kw["checkpoints"] = checkpoints
            return eqxi.while_loop(cond, step, (jnp.int32(0), y), **kw)[1]

        fns[f"{name} while_loop checkpointed"] = loop
        for c in (20, 1000):
            fns[f"{name} checkpointed, {c} checkpoints"] = lambda w, y, l=loop, c=c: l(w, y, checkpoints=c)
        fns[f"{name} while_loop bounded"] = lambda w, y, l=loop: l(w, y, kind="bounded")
        fns[f"{name} scan(kind=checkpointed)"] = lambda w, y, e=internal: e.scan(
            lambda y, _: (body(w, y), None), y, None, length=STEPS, kind="checkpointed"
        )[0]
    fwd, bwd = {}, {}
    for k, f in fns.items():
        try:
            t = time.perf_counter()
            cf = jax.jit(f).lower(w, y0).compile()
            cg = jax.jit(jax.grad(lambda w, y, f=f: (f(w, y) ** 2).sum())).lower(w, y0).compile()
            t = time.perf_counter() - t
        except Exception as e:
            print(f"  [skip] {k}: {type(e).__name__} {str(e)[:200]}")
            continue
        note("compile fwd+grad", contender=k, seconds=round(t, 2))
        note(
            "XLA temp bytes",
            contender=k,
            fwd_MB=round(cf.memory_analysis().temp_size_in_bytes / 1e6, 3),
            grad_MB=round(cg.memory_analysis().temp_size_in_bytes / 1e6, 3),
        )
        fwd[k] = lambda c=cf: jax.block_until_ready(c(w, y0))
        bwd[k] = lambda c=cg: jax.block_until_ready(c(w, y0))
    base = "equinox while_loop checkpointed"
    compare("10k steps: forward", fwd, base=base, rounds=11, target=0.02, unit="ms")
    compare("10k steps: grad", bwd, base=base, rounds=11, target=0.02, unit="ms")
