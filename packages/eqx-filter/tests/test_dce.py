"""`debug.store_dce`, `debug.inspect_dce`: which arrays are left in the compiled program."""

import jax
import jax.numpy as jnp
import pytest

import eqx_core
from eqx_filter import filter_jit
from eqx_filter.debug import inspect_dce, store_dce


def inspected(capfd, name):
    capfd.readouterr()
    inspect_dce(name)
    return capfd.readouterr().out


@pytest.mark.parametrize("compile_it", [jax.jit, filter_jit], ids=["jit", "filter_jit"])
def test_what_is_not_used_is_shown_as_gone(compile_it, capfd):
    name = object()

    @compile_it
    def fun(x):
        used, _, _ = store_dce((x, x**2, "foobar"), name)
        used, _ = store_dce((used, jnp.sin(x)), name)
        return used

    assert fun(jnp.array(1)) == 1
    assert fun(jnp.array(2)) == 2
    expected = "Found 2 calls to `store_dce`.\nEntry 0:\n(i32[], <DCE'd>, 'foobar')\nEntry 1:\n(i32[], <DCE'd>)\n"
    assert inspected(capfd, name) == expected


def test_it_is_the_identity_under_transformations(capfd):
    fun = jax.jit(jax.vmap(jax.grad(lambda x: store_dce((x, 3), "grad")[0] ** 2)))
    assert fun(jnp.array([1.0, 2.0])).tolist() == [2, 4]
    assert inspected(capfd, "grad") == "Found 1 call to `store_dce`.\nEntry 0:\n(f32[], 3)\n"


def test_names_are_kept_apart_and_caches_can_be_cleared(capfd):
    jax.jit(lambda x: store_dce(x, "one"))(1)
    assert inspected(capfd, "other") == "Found 0 calls to `store_dce`.\n"
    assert inspected(capfd, "one").startswith("Found 1 call to")
    eqx_core.clear_caches()
    assert inspected(capfd, "one") == "Found 0 calls to `store_dce`.\n"


def test_storing_is_for_the_inside_and_inspecting_for_the_outside():
    with pytest.raises(RuntimeError, match=r"`store_dce\(x\)` must be used inside of JIT; got a call outside"):
        store_dce(jnp.ones(1))
    with pytest.raises(RuntimeError, match=r"`inspect_dce\(\)` must be used outside of JIT; got a call inside"):
        jax.jit(lambda x: inspect_dce())(1)
