"""Topic 4: tree_at, tree_equal, partition+combine, pformat."""

import jax
import jax.numpy as jnp
import models
from timing import compare, eqx_likes, optional


def main():
    at, at_many, eq, pc, pf = {}, {}, {}, {}, {}
    new = jnp.zeros(2)
    for name, eqx in eqx_likes():
        m = models.mixed(eqx, 1000)
        m2 = models.mixed(eqx, 1000)
        # same class, same structure, distinct arrays
        m2 = jax.tree.map(lambda a: a.copy() if eqx.is_array(a) else a, m)
        w = lambda t: t.layers[250].weight
        ws = lambda t: [l.weight for l in t.layers[:100]]
        at[name] = lambda m=m, w=w, e=eqx: e.tree_at(w, m, new)
        at_many[name] = lambda m=m, w=ws, e=eqx: e.tree_at(w, m, [new] * 100)
        eq[f"{name} arrays differ in identity"] = lambda m=m, n=m2, e=eqx: bool(e.tree_equal(m, n))
        eq[f"{name} same object"] = lambda m=m, e=eqx: bool(e.tree_equal(m, m))
        pc[name] = lambda m=m, e=eqx: e.combine(*e.partition(m, e.is_array))
        pf[name] = lambda m=m, e=eqx: e.tree_pformat(m)
    d = models.mixed_dict(1000)
    d2 = jax.tree.map(lambda a: a.copy(), d)

    def dict_at():
        layers = list(d["layers"])
        layers[250] = {**layers[250], "weight": new}
        return {**d, "layers": layers}

    at["raw dict, by hand"] = dict_at

    def one_roundtrip():
        l, t = jax.tree.flatten(m)
        l = list(l)
        l[250] = new
        return jax.tree.unflatten(t, l)

    at["one flatten+unflatten"] = one_roundtrip
    import numpy as np

    eq["raw numpy loop"] = lambda: all(
        np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(jax.tree.leaves(d), jax.tree.leaves(d2), strict=True)
    )

    def split_once():
        l, t = jax.tree.flatten(m)
        dyn = [x if isinstance(x, jax.Array) else None for x in l]
        sta = [None if isinstance(x, jax.Array) else x for x in l]
        return jax.tree.unflatten(t, [b if a is None else a for a, b in zip(dyn, sta, strict=True)])

    pc["one flatten+unflatten"] = split_once
    pf["repr(dict)"] = lambda: repr(jax.tree.map(jax.typeof, d))
    if optional("flax"):
        from flax import nnx

        n = models.mixed_nnx(1000)
        pf["nnx repr"] = lambda: repr(n)
        pc["nnx split+merge"] = lambda: nnx.merge(*nnx.split(n))
    compare("tree_at, 1 of 1000 leaves", at, base="equinox", rounds=21)
    compare("tree_at, 100 of 1000 leaves", at_many, base="equinox", rounds=21)
    compare(
        "tree_equal, 1000 leaves",
        eq,
        base="equinox arrays differ in identity",
        rounds=11,
        unit="ms",
    )
    compare("partition+combine, 1000 array leaves", pc, base="equinox", rounds=21)
    compare("pformat, 1000 array leaves", pf, base="equinox", rounds=11, unit="ms")
