"""Failed checks under `filter_jit(checks="late")`: reported by `wait`, once each."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqx_filter import EquinoxRuntimeError, error_if, filter_jit, wait


def check(x):
    return error_if(x, x < 0, "got {x_}", x_=x) * 2


@pytest.fixture(autouse=True)
def _nothing_before():
    wait()


def test_a_failure_is_reported_by_wait_and_only_once():
    fun = filter_jit(check, checks="late")
    assert np.isnan(fun(jnp.array(-1.0)))
    assert fun(jnp.array(1.0)) == 2
    with pytest.raises(EquinoxRuntimeError, match=r"(?s)^Above is the stack.*in check.*got -1.0"):
        wait()
    wait()


def test_failures_of_several_calls_are_reported_together():
    fun = filter_jit(jax.vmap(check), checks="late")
    for value in (-1.0, -2.0):
        fun(jnp.array([1.0, value]))
    with pytest.raises(EquinoxRuntimeError) as caught:
        wait()
    assert "Batch index (1,) had error:\ngot -1.0\n\nBatch index (1,) had error:\ngot -2.0\n" in str(caught.value)


def test_the_same_function_may_be_compiled_both_ways():
    late, now = filter_jit(check, checks="late"), filter_jit(check, checks="now")
    for _ in range(2):
        assert np.isnan(late(jnp.array(-1.0)))
        with pytest.raises(EquinoxRuntimeError, match=r"got -1\.0"):
            now(jnp.array(-1.0))
        with pytest.raises(EquinoxRuntimeError, match=r"got -1\.0"):
            wait()


def test_inside_of_another_program_that_one_decides():
    late = filter_jit(check, checks="late")
    with pytest.raises(EquinoxRuntimeError, match=r"got -1\.0"):
        filter_jit(lambda x: late(x))(jnp.array(-1.0))
    wait()


def test_without_checks_there_is_nothing_to_wait_for():
    fun = filter_jit(lambda x: x + 1, checks="late")
    assert fun(jnp.array(-1.0)) == 0
    assert jax.grad(fun)(1.0) == 1
    wait()


def test_it_can_be_lowered_and_may_donate():
    fun = filter_jit(check, checks="late", donate="all")
    assert np.isnan(fun(jnp.array(-3.0)))
    with pytest.raises(EquinoxRuntimeError, match=r"got -3\.0"):
        wait()
    assert np.isnan(fun.lower(jnp.array(-3.0)).compile()(jnp.array(-4.0)))
    with pytest.raises(EquinoxRuntimeError, match=r"got -4\.0"):
        wait()


def test_another_choice_is_refused():
    with pytest.raises(ValueError, match=r"`filter_jit\(checks=...\)` must be 'now' or 'late'; got 'never'"):
        filter_jit(check, checks="never")


def test_what_nobody_waited_for_is_printed_at_exit():
    program = """
        import jax.numpy as jnp, eqx_filter
        fun = eqx_filter.filter_jit(lambda x: eqx_filter.error_if(x, x < 0, "negative"), checks="late")
        print(fun(jnp.array(-1.0)))
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout) == (0, "nan\n")
    assert "`eqx_filter.wait` was not called" in done.stderr
    assert done.stderr.count("EquinoxRuntimeError: negative") == 1
