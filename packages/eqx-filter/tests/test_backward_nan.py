"""`debug.backward_nan`: what it prints, and when it raises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_filter
from eqx_filter import EquinoxRuntimeError, filter_grad, filter_jit
from eqx_filter.debug import backward_nan


@pytest.mark.parametrize("compile_it", [lambda f: f, jax.jit, filter_jit], ids=["eager", "jit", "filter_jit"])
def test_primals_and_cotangents_are_printed(compile_it, capfd):
    fun = compile_it(jax.grad(lambda x: jnp.sum(backward_nan(x, name="foo") ** 2)))
    np.testing.assert_array_equal(fun(jnp.array([1.0, 2.0])), [2, 4])
    jax.effects_barrier()
    expected = "foo:\n   primals=Array([1., 2.], dtype=float32)\ncotangents=Array([2., 4.], dtype=float32)\n"
    assert capfd.readouterr().out == expected


def test_without_a_name_it_is_two_lines_and_the_forward_pass_prints_nothing(capfd):
    assert backward_nan(jnp.array(1.0)) == 1
    assert capfd.readouterr().out == ""
    jax.grad(backward_nan)(jnp.array(1.0))
    jax.effects_barrier()
    assert capfd.readouterr().out == "   primals=Array(1., dtype=float32)\ncotangents=Array(1., dtype=float32)\n"


@pytest.mark.parametrize("compile_it", [lambda f: f, filter_jit], ids=["eager", "jit"])
def test_a_nan_is_an_error_unless_it_shall_not(compile_it, capfd):
    def fun(x, terminate):
        return jnp.sum(backward_nan(x, terminate=terminate) * jnp.nan)

    with pytest.raises(EquinoxRuntimeError, match="Encountered NaN"):
        compile_it(filter_grad(lambda x: fun(x, True)))(jnp.ones(2))
    assert np.isnan(compile_it(filter_grad(lambda x: fun(x, False)))(jnp.ones(2))).all()
    jax.effects_barrier()
    assert capfd.readouterr().out.count("cotangents=Array([nan, nan], dtype=float32)") == 2


def test_trees_may_hold_anything(capfd):
    x = {"a": jnp.array(1.0), "b": "text", "c": jnp.array(2.0)}
    grad = filter_grad(lambda x: backward_nan(x)["a"] ** 2)(x)
    assert grad["a"] == 2
    jax.effects_barrier()
    out = capfd.readouterr().out
    assert "'b': 'text'" in out
    assert "cotangents={'a': Array(2., dtype=float32), 'b': None, 'c': None}" in out


def test_internal_has_it_too():
    assert eqx_filter.internal.debug_backward_nan is backward_nan
