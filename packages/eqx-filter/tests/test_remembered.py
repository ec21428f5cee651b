"""Control flow outside of `filter_jit` is compiled once, and never mistakes one function for another."""

import gc
import weakref

import jax
import jax.numpy as jnp
import pytest

import eqx_core
from eqx_filter import filter_cond, filter_fori_loop, filter_scan, filter_switch

X = jnp.ones(2)


def _step(f, carry, x):
    return f(carry), None


def _body(f, i, val):
    return f(val)


RUNS = pytest.mark.parametrize(
    "run",
    [
        lambda f: filter_scan(eqx_core.Partial(_step, f), X, length=1)[0],
        lambda f: filter_cond(True, f, f, X),
        lambda f: filter_switch(0, [f, f], X),
        lambda f: filter_fori_loop(0, 1, eqx_core.Partial(_body, f), X),
    ],
    ids=["scan", "cond", "switch", "fori_loop"],
)


class Mutable:
    def scale(self, x):
        return self.by * x


@RUNS
def test_a_method_of_a_plain_object_sees_what_was_written_to_it(run):
    plain = Mutable()
    for by in (2.0, 3.0):
        plain.by = jnp.float32(by)
        assert run(plain.scale).tolist() == [by, by]


@RUNS
@pytest.mark.parametrize("transform", [jax.jit, jax.grad], ids=["jit", "grad"])
def test_what_a_plain_object_holds_may_be_traced(run, transform):
    plain = Mutable()

    def scaled(by):
        plain.by = by
        return run(plain.scale).sum()

    for by in (2.0, 3.0):
        assert transform(scaled)(by) == (2 * by if transform is jax.jit else 2)


@RUNS
def test_what_a_function_closes_over_may_be_traced(run):
    def scaled(by):
        return run(lambda x: by * x).sum()

    assert jax.jit(scaled)(3.0) == 6
    assert jax.grad(scaled)(3.0) == 2
    assert jax.vmap(scaled)(jnp.arange(2.0)).tolist() == [0, 2]
    assert jax.jit(jax.grad(jax.checkpoint(scaled)))(3.0) == 2


def test_a_function_is_kept_no_longer_than_it_lives():
    def step(c, x):
        return c + x, None

    filter_scan(step, jnp.zeros(()), jnp.ones(2))
    function = weakref.ref(step)
    del step
    jax.clear_caches()
    gc.collect()
    assert function() is None
