"""Topic 1: flatten / unflatten / map."""

import jax
import models
from timing import compare, eqx_likes, optional

SIZES = (10, 100, 1000, 10000)


def _cases(trees):
    flat, unflat, mapped = {}, {}, {}
    for name, t in trees.items():
        leaves, treedef = jax.tree.flatten(t)
        flat[name] = lambda t=t: jax.tree.flatten(t)
        unflat[name] = lambda l=leaves, d=treedef: jax.tree.unflatten(d, l)
        mapped[name] = lambda t=t: jax.tree.map(lambda x: x, t)
    return flat, unflat, mapped


def _add_nnx(cases, model):
    from flax import nnx

    gd, state = nnx.split(model)
    cases[0]["nnx.split"] = lambda: nnx.split(model)
    cases[1]["nnx.merge"] = lambda: nnx.merge(gd, state)


def main():
    nnx = optional("flax")
    for n in SIZES:
        trees = {"dict": models.lin_list_dict(n), "dataclass(C++)": models.lin_list_raw(n)}
        for name, mod in eqx_likes():
            trees[name] = models.lin_list(mod, n)
        if nnx and n <= 1000:
            trees["nnx (as pytree)"] = models.lin_list_nnx(n)
        cases = _cases(trees)
        if nnx and n <= 1000:
            _add_nnx(cases, trees["nnx (as pytree)"])
        rounds = 15 if n == 10000 else 31
        for what, c in zip(("flatten", "unflatten", "map"), cases, strict=True):
            compare(f"tree.{what}, {n} modules", c, base="equinox", rounds=rounds)
    trees = {"dict": models.transformer_params()}
    for name, mod in eqx_likes():
        trees[name] = models.transformer(mod)
    if nnx:
        trees["nnx (as pytree)"] = models.transformer_nnx()
    if optional("haiku"):
        f = models.transformer_haiku()
        trees["haiku params"] = f.init(jax.random.PRNGKey(0), jax.numpy.ones((4, 16)))
    for k, v in trees.items():
        print(f"   {k}: {len(jax.tree.leaves(v))} leaves")
    cases = _cases(trees)
    if nnx:
        _add_nnx(cases, trees["nnx (as pytree)"])
    for what, c in zip(("flatten", "unflatten", "map"), cases, strict=True):
        compare(f"tree.{what}, 24-block transformer", c, base="equinox", rounds=31)
