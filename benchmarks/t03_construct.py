"""Topic 3: class creation and instance construction."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from timing import compare, eqx_likes, optional


def main():
    a = jnp.ones(2)
    make, dc, custom, attr, method = {}, {}, {}, {}, {}

    def plain_class():
        class A:
            def __init__(self, x, y, n, f):
                self.x, self.y, self.n, self.f = x, y, n, f

            def go(self):
                return self.x

        return A

    def frozen_dc():
        @dataclasses.dataclass(frozen=True)
        class A:
            x: Any
            y: Any
            n: int
            f: Any

            def go(self):
                return self.x

        return A

    def reg_dc():
        @jtu.register_dataclass
        @dataclasses.dataclass(frozen=True)
        class A:
            x: Any
            y: Any
            n: int = dataclasses.field(metadata={"static": True})
            f: Any

        return A

    make["plain class"] = plain_class
    make["dataclass(frozen)"] = frozen_dc
    make["register_dataclass"] = reg_dc
    P, F = plain_class(), frozen_dc()
    custom["plain class"] = lambda: P(a, a, 2, jax.nn.relu)
    dc["plain class"] = custom["plain class"]
    dc["dataclass(frozen)"] = lambda: F(a, a, 2, jax.nn.relu)
    p = P(a, a, 2, jax.nn.relu)
    attr["plain class"] = lambda: p.x
    method["plain class"] = lambda: p.go()

    for name, eqx in eqx_likes():

        def mod_dc(eqx=eqx):
            class A(eqx.Module):
                x: Any
                y: Any
                n: int = eqx.field(static=True)
                f: Any

                def go(self):
                    return self.x

            return A

        def mod_init(eqx=eqx):
            class A(eqx.Module):
                x: Any
                y: Any
                n: int = eqx.field(static=True)
                f: Any

                def __init__(self, x, y, n, f):
                    self.x, self.y, self.n, self.f = x, y, n, f

            return A

        make[f"{name} dataclass-init"] = mod_dc
        make[f"{name} custom-init"] = mod_init
        D, C = mod_dc(), mod_init()
        dc[name] = lambda D=D: D(a, a, 2, jax.nn.relu)
        custom[name] = lambda C=C: C(a, a, 2, jax.nn.relu)
        d = D(a, a, 2, jax.nn.relu)
        attr[name] = lambda d=d: d.x
        method[name] = lambda d=d: d.go()
    if optional("flax"):
        from flax import nnx

        def nnx_mod():
            class A(nnx.Module):
                def __init__(self, x, y, n, f):
                    self.x, self.y, self.n, self.f = nnx.Param(x), nnx.Param(y), n, f

                def go(self):
                    return self.x

            return A

        make["nnx"] = nnx_mod
        N = nnx_mod()
        custom["nnx"] = lambda: N(a, a, 2, jax.nn.relu)
        q = N(a, a, 2, jax.nn.relu)
        attr["nnx"] = lambda: q.x
        method["nnx"] = lambda: q.go()
    compare("class creation (4 fields)", make, base="equinox dataclass-init", rounds=15, target=0.005)
    compare("instance, dataclass init (4 fields)", dc, base="equinox")
    compare("instance, custom __init__ (4 fields)", custom, base="equinox")
    compare("attribute read", attr, base="equinox", unit="ns")
    compare("method call", method, base="equinox", unit="ns")
