"""Topic 9: error_if in a jitted step; un-jitted filter_vmap and filter_grad calls."""

import jax
import jax.numpy as jnp
import models
from timing import compare, eqx_likes


def main():
    x = jnp.ones((64,))
    w = jnp.eye(64) * 0.5
    err = {}

    def body(y):
        for _ in range(3):
            y = jnp.tanh(w @ y)
        return y

    f = jax.jit(body)
    err["jax.jit, no check"] = lambda: f(x).block_until_ready()

    def poisoned(y):
        out = body(y)
        return jnp.where(jnp.any(~jnp.isfinite(out)), jnp.nan, out)

    fp = jax.jit(poisoned)
    err["jax.jit, NaN poisoning (no raise)"] = lambda: fp(x).block_until_ready()

    def flagged(y):
        out = body(y)
        return out, jnp.any(~jnp.isfinite(out))

    ff = jax.jit(flagged)

    def host_checked():
        out, bad = ff(x)
        if bool(bad):
            raise RuntimeError
        return out.block_until_ready()

    err["jax.jit, flag output + host check"] = host_checked
    for name, eqx in eqx_likes():

        def checked(y, eqx=eqx):
            out = body(y)
            return eqx.error_if(out, jnp.any(~jnp.isfinite(out)), "bad")

        def checked3(y, eqx=eqx):
            for _ in range(3):
                y = jnp.tanh(w @ y)
                y = eqx.error_if(y, jnp.any(~jnp.isfinite(y)), "bad")
            return y

        g0, g1, g3 = eqx.filter_jit(body), eqx.filter_jit(checked), eqx.filter_jit(checked3)
        err[f"{name}.filter_jit, no check"] = lambda g=g0: g(x).block_until_ready()
        err[f"{name}.filter_jit, 1 error_if"] = lambda g=g1: g(x).block_until_ready()
        err[f"{name}.filter_jit, 3 error_if"] = lambda g=g3: g(x).block_until_ready()
    compare("error_if in a jitted step", err, base="equinox.filter_jit, no check", rounds=31)

    vm, gr, vg = {}, {}, {}
    xb = jnp.ones((4, 3))
    jv = jax.vmap(lambda a: a + 1)
    vm["jax.vmap"] = lambda: jv(xb)
    for name, eqx in eqx_likes():
        fv = eqx.filter_vmap(lambda a: a + 1)
        vm[f"{name}.filter_vmap"] = lambda fv=fv: fv(xb)
        mlp = eqx.nn.MLP(3, 3, 4, 2, key=jax.random.PRNGKey(0))
        vm[f"{name}.filter_vmap(mlp)"] = lambda fv=eqx.filter_vmap(mlp): fv(xb)
        vm[f"jax.vmap({name} mlp)"] = lambda fv=jax.vmap(mlp): fv(xb)
        loss = lambda m, x: m.layers[0].weight.sum() + x
        m = models.mixed(eqx, 100)
        fg = eqx.filter_grad(loss)
        fvg = eqx.filter_value_and_grad(loss)
        gr[f"{name}.filter_grad"] = lambda fg=fg, m=m: fg(m, 1.0)
        vg[f"{name}.filter_value_and_grad"] = lambda fg=fvg, m=m: fg(m, 1.0)
        p, s = eqx.partition(m, eqx.is_inexact_array)
        jg = jax.grad(lambda p, x, s=s, e=eqx: loss(e.combine(p, s), x))
        gr[f"{name} partition+jax.grad"] = lambda p=p, jg=jg: jg(p, 1.0)
    d = models.mixed_dict(100)
    dloss = lambda m, x: m["layers"][0]["weight"].sum() + x
    gr["jax.grad dict"] = lambda jg=jax.grad(dloss): jg(d, 1.0)
    vg["jax.value_and_grad dict"] = lambda jg=jax.value_and_grad(dloss): jg(d, 1.0)
    compare("un-jitted filter_vmap call", vm, base="equinox.filter_vmap", rounds=21)
    compare("un-jitted filter_grad call, 100 array leaves", gr, base="equinox.filter_grad", rounds=21)
    compare("un-jitted filter_value_and_grad call", vg, base="equinox.filter_value_and_grad", rounds=21)
