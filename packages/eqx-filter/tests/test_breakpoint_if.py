"""`debug.breakpoint_if`: it stops where it should and nowhere else."""

import jax
import jax.numpy as jnp
import pytest

import eqx_filter
from eqx_filter.debug import breakpoint_if


@pytest.fixture
def stops(monkeypatch):
    found = []
    monkeypatch.setattr(jax.debug, "breakpoint", lambda **kwargs: jax.debug.callback(lambda: found.append(kwargs)))
    return found


@pytest.mark.parametrize("compile_it", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_it_stops_only_if_the_predicate_is_true(compile_it, stops):
    fun = compile_it(lambda x: (breakpoint_if(x < 0, num_frames=2), x)[1])
    assert fun(jnp.array(1.0)) == 1
    jax.effects_barrier()
    assert stops == []
    assert fun(jnp.array(-1.0)) == -1
    jax.effects_barrier()
    assert stops == [{"num_frames": 2}]


def test_under_vmap_any_entry_counts(stops):
    fun = jax.jit(jax.vmap(lambda x: (breakpoint_if(x < 0), x)[1]))
    fun(jnp.ones(2))
    jax.effects_barrier()
    assert stops == []
    fun(jnp.array([1.0, -1.0]))
    jax.effects_barrier()
    assert len(stops) == 1


def test_the_token_comes_back():
    assert breakpoint_if(False) is None
    assert breakpoint_if(jnp.array(False), token=3) == 3
    assert jax.jit(lambda p: breakpoint_if(p, token=jnp.ones(2)))(False).tolist() == [1, 1]


def test_internal_has_it_too():
    assert eqx_filter.internal.breakpoint_if is breakpoint_if
