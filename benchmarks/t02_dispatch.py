"""Topic 2: per-call overhead of filter_jit, and of a whole train step."""

import jax
import jax.numpy as jnp
import models
import optax
from timing import OPTIONS, compare, eqx_likes, optional, report


def _dispatch(n):
    """Two shapes of call: model -> scalar, and model -> model (as in training)."""
    x = jnp.float32(1.0)
    read, update = {}, {}

    def first(leaves, x):
        return leaves[0].sum() + x

    def bump(t):
        return jax.tree.map(lambda a: a + 1, t)

    flat = jax.tree.leaves(models.mixed_dict(n))
    for name, model in (
        ("jit flat list", flat),
        ("jit dict", models.mixed_dict(n)),
        ("jit dataclass(C++)", models.mixed_raw(n)),
    ):
        f = jax.jit(lambda m, x: first(jax.tree.leaves(m), x))
        g = jax.jit(bump)
        read[name] = lambda f=f, m=model: f(m, x).block_until_ready()
        update[name] = lambda g=g, m=model: jax.block_until_ready(jax.tree.leaves(g(m))[0])

    for name, eqx in eqx_likes():
        model = models.mixed(eqx, n)

        def read_fn(is_array):  # binds this contender's predicate
            return lambda m, x: first([a for a in jax.tree.leaves(m) if is_array(a)], x)

        def bump_fn(is_array):
            return lambda m: jax.tree.map(lambda a: a + 1 if is_array(a) else a, m)

        f = eqx.filter_jit(read_fn(eqx.is_array))
        g = eqx.filter_jit(bump_fn(eqx.is_array))
        read[f"{name}.filter_jit"] = lambda f=f, m=model: f(m, x).block_until_ready()
        update[f"{name}.filter_jit"] = lambda g=g, m=model: jax.block_until_ready(g(m).layers[0].weight)
        # The advice given to users today: partition once, outside, and use jax.jit.
        params, _static = eqx.partition(model, eqx.is_array)
        f2 = jax.jit(lambda p, x: first(jax.tree.leaves(p), x))
        g2 = jax.jit(bump)
        read[f"{name} partition+jax.jit"] = lambda f=f2, m=params: f(m, x).block_until_ready()
        update[f"{name} partition+jax.jit"] = lambda g=g2, m=params: jax.block_until_ready(g(m).layers[0].weight)

    if optional("flax"):
        from flax import nnx

        model = models.mixed_nnx(n)
        f = nnx.jit(lambda m, x: m.layers[0].weight[...].sum() + x)

        @nnx.jit
        def g(m):
            nnx.update(m, jax.tree.map(lambda a: a + 1, nnx.state(m)))

        def run_g():
            g(model)
            jax.block_until_ready(model.layers[0].weight[...])

        read["nnx.jit"] = lambda: f(model, x).block_until_ready()
        update["nnx.jit"] = run_g
        cf = nnx.cached_partial(f, model)
        read["nnx.cached_partial"] = lambda: cf(x).block_until_ready()
    compare(f"dispatch model->scalar, {n} array leaves", read, base="equinox.filter_jit", rounds=31)
    compare(f"dispatch model->model, {n} array leaves", update, base="equinox.filter_jit", rounds=31)


def _baseline():
    x = jnp.float32(1.0)
    f = jax.jit(lambda x: x + 1)
    cases = {"jax.jit": lambda: f(x).block_until_ready()}
    for name, eqx in eqx_likes():
        g = eqx.filter_jit(lambda x: x + 1)
        cases[f"{name}.filter_jit"] = lambda g=g: g(x).block_until_ready()
        h = eqx.filter_jit(lambda x, flag, fn: fn(x) if flag else x)
        cases[f"{name}.filter_jit, 2 static args"] = lambda h=h: h(x, True, jnp.sin).block_until_ready()
    if optional("flax"):
        from flax import nnx

        k = nnx.jit(lambda x: x + 1)
        cases["nnx.jit"] = lambda: k(x).block_until_ready()
    hs = jax.jit(lambda x, flag, fn: fn(x) if flag else x, static_argnums=(1, 2))
    cases["jax.jit, 2 static args"] = lambda: hs(x, True, jnp.sin).block_until_ready()
    compare("dispatch scalar->scalar, no model", cases, base="equinox.filter_jit", rounds=41)


def _train_steps(which):
    opt = optax.adam(1e-3)
    x = jnp.ones((4, 16))
    cases = {}

    def loop(step, state):
        """Steps a carried state, as a training loop does."""
        box = [state]

        def run():
            out = step(*box[0])
            box[0] = out[:-1]
            out[-1].block_until_ready()

        return run

    for name, eqx in eqx_likes():
        if which == "mlp":
            build = lambda: eqx.nn.MLP(16, 16, 16, 2, key=jax.random.PRNGKey(0))
            fwd = lambda m, x: jax.vmap(m)(x)
        else:
            build = lambda: models.transformer(eqx)
            fwd = lambda m, x: m(x)

        def loss(m, x, fwd=fwd):
            return (fwd(m, x) ** 2).mean()

        def step(m, s, eqx=eqx, loss=loss):
            l, g = eqx.filter_value_and_grad(loss)(m, x)
            u, s = opt.update(g, s, eqx.filter(m, eqx.is_inexact_array))
            return eqx.apply_updates(m, u), s, l

        m = build()
        s = opt.init(eqx.filter(m, eqx.is_inexact_array))
        jstep = eqx.filter_jit(step)
        cases[f"{name}.filter_jit"] = loop(jstep, (m, s))
        dstep = eqx.filter_jit(step, donate="all")
        m2 = jax.tree.map(lambda a: a.copy() if eqx.is_array(a) else a, m)
        cases[f"{name}.filter_jit donate"] = loop(dstep, (m2, opt.init(eqx.filter(m2, eqx.is_inexact_array))))

        params, static = eqx.partition(m, eqx.is_inexact_array)

        @jax.jit
        def pstep(p, s, static=static, eqx=eqx, loss=loss):
            l, g = jax.value_and_grad(lambda p: loss(eqx.combine(p, static), x))(p)
            u, s = opt.update(g, s, p)
            return optax.apply_updates(p, u), s, l

        cases[f"{name} partition+jax.jit"] = loop(pstep, (params, s))

        # flat lists of arrays across the boundary, module only rebuilt inside the trace
        leaves, treedef = jax.tree.flatten((params, s))

        @jax.jit
        def fstep(ls, treedef=treedef, pstep=pstep):
            p, s, l = pstep(*jax.tree.unflatten(treedef, ls))
            return jax.tree.leaves((p, s)), l

        cases[f"{name} flat leaves+jax.jit"] = loop(fstep, (leaves,))

    if which == "transformer":
        p = models.transformer_params()

        @jax.jit
        def rstep(p, s):
            l, g = jax.value_and_grad(lambda p: (models.raw_transformer(p, x) ** 2).mean())(p)
            u, s = opt.update(g, s, p)
            return optax.apply_updates(p, u), s, l

        cases["raw dict+jax.jit"] = loop(rstep, (p, opt.init(p)))
    if optional("flax"):
        from flax import nnx

        if which == "mlp":

            class MLP(nnx.Module):
                def __init__(self, rngs):
                    self.layers = nnx.List([nnx.Linear(16, 16, rngs=rngs) for _ in range(3)])

                def __call__(self, x):
                    for l in self.layers[:-1]:
                        x = jax.nn.relu(l(x))
                    return self.layers[-1](x)

            nm = MLP(nnx.Rngs(0))
        else:
            nm = models.transformer_nnx()
        no = nnx.Optimizer(nm, opt, wrt=nnx.Param)

        def nstep(model, opt):
            l, g = nnx.value_and_grad(lambda m: (m(x) ** 2).mean())(model)
            opt.update(model, g)
            return l

        js = nnx.jit(nstep)
        cases["nnx.jit"] = lambda: js(nm, no).block_until_ready()
        if which == "transformer":
            nm2 = models.transformer_nnx()
            no2 = nnx.Optimizer(nm2, opt, wrt=nnx.Param)
            cs = nnx.cached_partial(nnx.jit(nstep), nm2, no2)
            cases["nnx.cached_partial"] = lambda: cs().block_until_ready()
    compare(f"train step, {which}", cases, base="equinox.filter_jit", rounds=31, target=0.02)


def _async():
    """Does a call return before its work is done? (JAX dispatches asynchronously.)"""
    import time

    w = jnp.ones((1000, 1000))
    returned, total = {}, {}

    def body(y):
        for _ in range(6):
            y = y @ w * 1e-3
        return y

    fns = {"jax.jit": jax.jit(body)}
    for name, eqx in eqx_likes():
        fns[f"{name}.filter_jit"] = eqx.filter_jit(body)
    if optional("flax"):
        from flax import nnx

        fns["nnx.jit"] = nnx.jit(body)
    for name, f in fns.items():
        f(w).block_until_ready()
        returned[name], total[name] = [], []
    for _ in range(4 if OPTIONS["quick"] else 15):
        for name, f in fns.items():
            t = time.perf_counter()
            y = f(w)
            returned[name].append(time.perf_counter() - t)
            y.block_until_ready()
            total[name].append(time.perf_counter() - t)
    report(
        "time until the call returns, ~100ms of work",
        returned,
        base="equinox.filter_jit",
        unit="ms",
    )
    report("time until the result is ready", total, base="equinox.filter_jit", unit="ms")


def main():
    _baseline()
    for n in (10, 100, 1000):
        _dispatch(n)
    _train_steps("mlp")
    _train_steps("transformer")
    _async()
