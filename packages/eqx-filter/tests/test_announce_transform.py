"""`debug.announce_transform`: the stacks of transformations, against those of a peer where it is there."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

import eqx_filter
from eqx_filter.debug import announce_transform

one, two = jnp.ones(()), jnp.ones(2)
PROGRAMS = {
    "eager": lambda f: f(one),
    "jit": lambda f: jax.jit(f)(one),
    "vmap": lambda f: jax.vmap(f)(two),
    "grad": lambda f: jax.grad(f)(one),
    "jit of grad": lambda f: jax.jit(jax.grad(lambda x: f(x) * 2))(one),
    "vmap of grad": lambda f: jax.vmap(jax.grad(f))(two),
    "grad of vmap": lambda f: jax.grad(lambda x: jax.vmap(f)(x).sum())(two),
    "jvp": lambda f: jax.jvp(f, (one,), (one,)),
    "hessian": lambda f: jax.hessian(lambda x: f(x) ** 2)(one),
    "transpose": lambda f: jax.linear_transpose(f, one)(one),
}


def announced(announce, program, **options):
    found = []
    PROGRAMS[program](lambda x: announce(x, announce=found.append, **options))
    return found


@pytest.mark.skipif(importlib.util.find_spec("equinox") is None, reason="the peer is not installed")
@pytest.mark.parametrize("intermediates", [False, True])
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_stacks_are_those_of_the_peer(program, intermediates):
    peer = pytest.importorskip("equinox.debug").announce_transform
    options = {"name": "N", "intermediates": intermediates}
    assert announced(announce_transform, program, **options) == announced(peer, program, **options)


@pytest.mark.parametrize(
    ("program", "stacks"),
    [
        ("eager", ["impl"]),
        ("jit", ["abstract", "mlir"]),
        ("vmap", ["vmap:impl"]),
        ("jvp", ["jvp_p:impl", "jvp_t:impl"]),
        ("transpose", ["abstract", "transpose:impl"]),
    ],
)
def test_the_end_is_announced_with_all_that_led_there(program, stacks):
    assert announced(announce_transform, program) == stacks


def test_intermediates_are_announced_as_they_happen():
    assert announced(announce_transform, "vmap", intermediates=True) == ["vmap", "vmap:impl"]
    assert announced(announce_transform, "jvp", intermediates=True)[0] == "jvp"


def test_it_changes_nothing(capsys):
    x = {"a": jnp.ones(2), "b": "text"}
    out = announce_transform(x, name="x")
    assert out["b"] == "text"
    assert capsys.readouterr().out == "(x) impl\n"
    assert jax.grad(lambda x: announce_transform((x, x * 3))[1])(1.0) == 3
    assert announce_transform("text") == "text"


def test_internal_has_it_too():
    assert eqx_filter.internal.announce_transform is announce_transform
    assert eqx_filter.internal.announce_jaxpr_p.name == "announce_jaxpr"
