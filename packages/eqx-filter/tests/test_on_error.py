"""What chooses the mode of a check: the argument, the context, the environment."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqx_filter import EquinoxRuntimeError, error_if, filter_jit, on_error


def check(x):
    return error_if(x, x < 0, "negative")


@pytest.mark.parametrize("fun", [check, filter_jit(check), filter_jit(lambda x: jax.jit(check)(x))])
def test_the_context_counts_when_the_function_is_called(fun):
    x = jnp.array(-1.0)
    for _ in range(2):
        with pytest.raises(EquinoxRuntimeError, match="negative"):
            fun(x)
        with on_error("nan"):
            assert np.isnan(fun(x))
            with on_error("off"):
                assert fun(x) == -1
            assert np.isnan(fun(x))
        with on_error("raise"), pytest.raises(EquinoxRuntimeError, match="negative"):
            fun(x)


def test_the_argument_outdoes_the_context():
    fun = filter_jit(lambda x: error_if(x, x < 0, "negative", on_error="nan"))
    with on_error("off"):
        assert np.isnan(fun(jnp.array(-1.0)))


def test_plain_jit_obeys_the_context_too():
    fun = jax.jit(check)
    with on_error("off"):
        assert fun(jnp.array(-1.0)) == -1
    with on_error("nan"):
        assert np.isnan(fun(jnp.array(-1.0)))
    with pytest.raises((ValueError, RuntimeError), match="negative"):
        fun(jnp.array(-1.0))


def test_the_mode_is_left_with_the_context_also_by_an_error():
    with pytest.raises(KeyError), on_error("off"):
        raise KeyError
    with pytest.raises(EquinoxRuntimeError):
        check(jnp.array(-1.0))


def test_an_unknown_mode_is_refused():
    with (
        pytest.raises(ValueError, match=r"`on_error\(mode=...\)` must be one of 'raise'.*got 'default'"),
        on_error("default"),
    ):
        pass


def run(program, **variables):
    environment = (
        os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JAX_PLATFORMS": "cpu"} | variables
    )
    program = f"import jax.numpy as jnp, eqx_filter\n{program}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120)


def test_the_environment_is_the_default():
    done = run("print(eqx_filter.error_if(jnp.array(1.0), jnp.array(True), 'bad'))", EQX_ON_ERROR="nan")
    assert (done.stdout, done.stderr) == ("nan\n", "")
    program = "with eqx_filter.on_error('raise'): eqx_filter.error_if(jnp.array(1.0), jnp.array(True), 'bad')"
    assert "EquinoxRuntimeError: bad" in run(program, EQX_ON_ERROR="off").stderr


def test_the_environment_is_checked_at_import():
    done = run("", EQX_ON_ERROR="ignore")
    assert "ValueError: `EQX_ON_ERROR` must be one of 'raise', 'breakpoint', 'nan', 'off'; got 'ignore'." in done.stderr
    done = run("", EQX_ON_ERROR_BREAKPOINT_FRAMES="none")
    assert "ValueError: `EQX_ON_ERROR_BREAKPOINT_FRAMES` must be a number of frames" in done.stderr
    assert "UserWarning: `EQX_ON_ERROR=breakpoint` is set" in run("", EQX_ON_ERROR="breakpoint").stderr
