"""Failed checks under `filter_jit(checks="late")`: raised where a result is read, and by `wait`, once each."""

import os
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import EquinoxRuntimeError, error_if, filter_jit, wait

UNREADABLE = pytest.raises(jax.errors.JaxRuntimeError, match=r"(?s)got -1\.0.*`eqx_filter\.wait\(\)`")
REPORTED = pytest.raises(EquinoxRuntimeError, match=r"(?s)^Above is the stack.*in check.*got -1\.0")
READS = {
    "asarray": np.asarray,
    "float": float,
    "item": lambda x: x.item(),
    "print": repr,
    "block": jax.block_until_ready,
    "device_get": jax.device_get,
    "computed of it": lambda x: np.asarray(x + 1),
    "computed of it by jit": lambda x: np.asarray(jax.jit(jnp.sin)(x)),
}


def check(x):
    return error_if(x, x < 0, "got {x_}", x_=x) * 2


@jax.jit
def _long(x, n):
    return jax.lax.fori_loop(0, n, lambda _, x: x @ x / 300, x)[0, 0]


def in_a_while(value):
    """Return a number which is there only after the call of a program that takes it has returned."""
    return value * _long(jnp.ones((300, 300)), 60)


NOW_AND_LATER = pytest.mark.parametrize("number", [jnp.array, in_a_while], ids=["at_once", "in_a_while"])


@pytest.fixture(autouse=True)
def _nothing_before():
    wait()


@NOW_AND_LATER
@pytest.mark.parametrize("read", READS)
def test_a_failure_raises_where_a_result_is_read_and_then_once_in_wait(read, number, caplog):
    fun = filter_jit(check, checks="late")
    assert fun(number(1.0)) == 2
    y = fun(number(-1.0))
    for _ in range(2):
        with UNREADABLE:
            READS[read](y)
    assert fun(number(1.0)) == 2
    with REPORTED:
        wait()
    wait()
    assert caplog.records == []


@NOW_AND_LATER
def test_a_failure_that_nobody_reads_is_raised_by_wait(number):
    fun = filter_jit(check, checks="late")
    fun(number(-1.0))
    for _ in range(40):
        fun(number(1.0))
    with REPORTED:
        wait()
    wait()


def test_results_have_the_types_that_they_have_otherwise():
    def fun(x):
        x = error_if(x, x[0] < 0, "bad")
        return {"x": x, "key": jr.key(x[0].astype(int)), "i": x.astype(jnp.int8), "text": "text", "c": (x @ x, None)}

    good, bad = (filter_jit(fun, checks="late")(x) for x in (jnp.ones(3), -jnp.ones(3)))
    assert jax.tree.structure(good) == jax.tree.structure(bad)
    assert bad["text"] == "text"
    for a, b in zip(*(jax.tree.leaves(eqx_filter.filter(out, eqx_core.is_array)) for out in (good, bad)), strict=True):
        assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)
        with pytest.raises(jax.errors.JaxRuntimeError, match="bad"):
            jax.block_until_ready(b)
    with pytest.raises(EquinoxRuntimeError, match="bad"):
        wait()


def test_failures_of_several_calls_are_raised_together():
    fun = filter_jit(jax.vmap(check), checks="late")
    for value in (-1.0, -2.0):
        fun(jnp.array([1.0, value]))
    with pytest.raises(EquinoxRuntimeError) as caught:
        wait()
    assert "Batch index (1,) had error:\ngot -1.0\n\nBatch index (1,) had error:\ngot -2.0\n" in str(caught.value)


@NOW_AND_LATER
def test_a_failure_passes_on_from_step_to_step_and_is_raised_once(number):
    step = filter_jit(lambda x: check(x) / 2, checks="late", donate="all")
    x = number(-1.0)
    for _ in range(3):
        x = step(x)
    with UNREADABLE:
        float(x)
    with REPORTED as caught:
        wait()
    assert str(caught.value).count("got -1.0") == 1
    wait()


@NOW_AND_LATER
def test_a_program_that_reports_now_reports_what_it_is_given(number):
    late, now = filter_jit(check, checks="late"), filter_jit(check)
    y = late(number(-1.0))
    with pytest.raises(EquinoxRuntimeError, match=r"(?s)^Above is the stack.*in check.*got -1\.0"):
        now(y)
    wait()


def test_the_same_function_may_be_compiled_both_ways():
    late, now = filter_jit(check, checks="late"), filter_jit(check, checks="now")
    for _ in range(2):
        y = late(jnp.array(-1.0))
        with REPORTED:
            now(jnp.array(-1.0))
        with UNREADABLE:
            float(y)
        with REPORTED:
            wait()


def test_inside_of_another_program_that_one_decides():
    late = filter_jit(check, checks="late")
    with REPORTED:
        filter_jit(lambda x: late(x))(jnp.array(-1.0))
    wait()
    filter_jit(lambda x: filter_jit(check)(x), checks="late")(jnp.array(-1.0))
    with REPORTED:
        wait()


def test_a_program_that_a_callback_runs_is_reported_by_the_one_that_calls_it_back():
    def outer(x):
        return jax.pure_callback(
            lambda x: np.asarray(filter_jit(check)(jnp.asarray(x))), x, error_if(x, x > 9, "large")
        )

    filter_jit(outer, checks="late")(jnp.array(-1.0))
    with pytest.raises(EquinoxRuntimeError, match=r"got -1\.0"):
        wait()
    wait()


def test_other_errors_are_raised_as_they_are():
    def explode(x):
        raise KeyError("mine")

    fun = filter_jit(lambda x: jax.pure_callback(explode, x, check(x)), checks="late")
    with pytest.raises((ValueError, RuntimeError), match="mine"):
        fun(jnp.array(1.0))

    def call_and_wait():
        # Whether the call returns before that is a matter of luck.
        fun(in_a_while(1.0))
        wait()

    with pytest.raises((ValueError, RuntimeError), match="mine"):
        call_and_wait()
    wait()


def test_without_checks_there_is_nothing_to_wait_for():
    fun = filter_jit(lambda x: x + 1, checks="late")
    assert fun(jnp.array(-1.0)) == 0
    assert jax.grad(fun)(1.0) == 1
    wait()


@NOW_AND_LATER
def test_it_can_be_lowered_and_may_donate(number):
    fun = filter_jit(check, checks="late", donate="all")
    compiled = fun.lower(jnp.array(-3.0)).compile()
    assert compiled(number(1.0)) == 2
    for call in (fun, compiled):
        with UNREADABLE:
            float(call(number(-1.0)))
        with REPORTED:
            wait()


def test_where_arrays_cannot_be_made_to_raise_the_call_does(monkeypatch):
    monkeypatch.setattr(eqx_filter._jax_compat, "_MAKE_ERROR_ARRAY", None)
    with REPORTED:
        filter_jit(lambda x: (check(x), jr.key(0)), checks="late")(jnp.array(-1.0))
    wait()


def test_a_program_for_several_devices_goes_on_with_nan():
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices("cpu")[:2])
    x = jax.device_put(jnp.array([1.0, -1.0]), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("i")))
    fun = filter_jit(lambda x: error_if(x, jnp.any(x < 0), "bad"), checks="late")
    np.testing.assert_array_equal(fun(jnp.abs(x)), [1, 1])
    assert np.isnan(fun(x)).all()
    with pytest.raises(EquinoxRuntimeError, match="bad"):
        wait()
    wait()


def test_failures_of_several_threads_are_all_raised():
    fun = filter_jit(check, checks="late")
    fun(jnp.array(0.0))

    def work(i):
        for repeat in range(10):
            fun(jnp.array(-100.0 * i - repeat - 1))
            fun(jnp.array(1.0))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(EquinoxRuntimeError) as caught:
        wait()
    assert all(f"got {-100.0 * i - repeat - 1}\n" in str(caught.value) for i in range(4) for repeat in range(10))
    wait()


def test_another_choice_is_refused():
    with pytest.raises(ValueError, match=r"`filter_jit\(checks=...\)` must be 'now' or 'late'; got 'never'"):
        filter_jit(check, checks="never")


def run(program):
    """Run a program in a Python of its own, in which `fun` reports late."""
    program = (
        "import jax, jax.numpy as jnp, eqx_filter\n"
        'fun = eqx_filter.filter_jit(lambda x: eqx_filter.error_if(x, x < 0, "negative"), checks="late")\n'
        "long = jax.jit(lambda x: jax.lax.fori_loop(0, 100, lambda _, x: x @ x / 300, x)[0, 0])\n"
    ) + textwrap.dedent(program)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JAX_PLATFORMS": "cpu"}
    environment.pop("EQX_ON_ERROR", None)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize("number", ["jnp.array(-1.0)", "-long(jnp.ones((300, 300)))"])
def test_what_nobody_asked_for_is_printed_at_exit(number):
    done = run(f"fun({number})")
    assert (done.returncode, done.stdout) == (0, "")
    assert "`eqx_filter.wait` was not called" in done.stderr
    assert done.stderr.count("EquinoxRuntimeError: negative") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", ["jnp.array(-1.0)", "-long(jnp.ones((300, 300)))"])
def test_at_exit_nothing_is_said_twice(number):
    done = run(f"print(fun({number}))")
    assert done.returncode == 1
    assert done.stderr.count("negative") == 1
    assert done.stderr.count('Traceback (most recent call last):\n  File "<string>"') == 1
    assert "was not called" not in done.stderr
    done = run(f"fun({number})\neqx_filter.wait()")
    assert (done.returncode, done.stderr.count("Traceback"), done.stderr.count("Error: negative")) == (1, 1, 1)
