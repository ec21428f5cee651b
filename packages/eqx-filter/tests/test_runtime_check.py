"""Which programs hold a check, and so wait for it: known from the program itself."""

import jax
import jax.numpy as jnp
import pytest

import eqx_filter
from eqx_filter import error_if, filter_custom_jvp, filter_jit, on_error

OncePassed = eqx_filter._jit_output.OncePassed


def check(x):
    return error_if(x, x < 0, "negative")


traced_before = jax.jit(check)


@filter_custom_jvp
def with_rule(x):
    return check(x)


@with_rule.def_jvp
def _rule(primals, tangents):
    return with_rule(*primals), tangents[0]


WITH_CHECK = {
    "itself": check,
    "inner jit": lambda x: jax.jit(check)(x),
    "inner jit, traced before": lambda x: traced_before(x),
    "scan": lambda x: jax.lax.scan(lambda c, _: (check(c), None), x, None, length=2)[0],
    "cond": lambda x: jax.lax.cond(x > 0, check, lambda x: x, x),
    "while": lambda x: jax.lax.while_loop(lambda x: x < 2, lambda x: check(x) + 1, x),
    "custom_jvp": with_rule,
    "checkpoint": jax.checkpoint(check),
    "vmap": lambda x: jax.vmap(check)(x[None])[0],
    "grad": lambda x: jax.grad(check)(x),
    "remat of scan of jit": lambda x: jax.checkpoint(WITH_CHECK["scan"])(jax.jit(lambda x: x)(x)),
}
WITHOUT = {
    "nothing": lambda x: x,
    "known to pass": lambda x: error_if(x, False, "negative"),
    "mode nan": lambda x: error_if(x, x < 0, "negative", on_error="nan"),
    "other inner programs": lambda x: jax.lax.scan(lambda c, _: (jnp.sin(jax.jit(jnp.cos)(c)), None), x, None, 2)[0],
}


def waits(fun):
    jitted = filter_jit(fun)
    program, arrays = jitted._cache.find((jitted.fun, (jnp.array(1.0),), {}), jitted._signature)
    return type(program(*arrays).func) is OncePassed


@pytest.mark.parametrize("name", WITH_CHECK)
def test_a_check_is_found_wherever_it_is(name):
    traced_before(jnp.array(1.0))
    assert waits(WITH_CHECK[name])


@pytest.mark.parametrize("name", WITHOUT)
def test_a_program_without_a_check_does_not_wait(name):
    assert not waits(WITHOUT[name])


def test_the_policy_decides_for_each_trace():
    def fun(x):
        return check(x) + 1

    with on_error("off"):
        assert not waits(fun)
    assert waits(fun)
    with on_error("off"):
        assert not waits(fun)
