"""How a failed check is presented, whoever runs the program."""

import os
import pickle
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import pytest

import eqx_filter
from eqx_filter import EquinoxRuntimeError, error_if, filter_jit


def check_here(x):
    return error_if(x, x < 0, "negative value")


def middle(x):
    return check_here(x) + 1


@filter_jit
def entry(x):
    return middle(x)


def fails(fun, *args):
    with pytest.raises(EquinoxRuntimeError) as caught:
        fun(*args)
    return caught.value


def run(program):
    """Run a program in a Python of its own."""
    program = "import jax, jax.numpy as jnp, eqx_filter\n" + textwrap.dedent(program)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JAX_PLATFORMS": "cpu"}
    environment.pop("EQX_ON_ERROR", None)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120)


def test_there_is_one_class_of_three_names():
    assert eqx_filter.EquinoxTracetimeError is eqx_filter.EqxRuntimeError is EquinoxRuntimeError
    assert issubclass(EquinoxRuntimeError, RuntimeError)
    assert (EquinoxRuntimeError.__module__, EquinoxRuntimeError.__qualname__) == ("builtins", "EquinoxRuntimeError")


def test_it_survives_pickling():
    error = pickle.loads(pickle.dumps(EquinoxRuntimeError("text")))
    assert type(error) is EquinoxRuntimeError
    assert error.args == ("text",)


def test_the_text_is_the_users_frames_the_message_and_the_advice():
    error = fails(entry, jnp.array(-1.0))
    text = str(error)
    assert text.startswith("Above is the stack outside of JIT")
    assert error.__cause__ is None
    assert error.__context__ is None
    parts = ["Below is the stack inside", "in entry\n", "in middle\n", "in check_here\n", "error_if(x, x < 0"]
    parts += ["EquinoxRuntimeError: negative value\n", "EQX_ON_ERROR", "JAX_DISABLE_JIT"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count("  File ") == 3
    assert all(line.endswith(("entry", "middle", "check_here")) for line in text.splitlines() if "  File " in line)


def test_the_frames_begin_at_the_jit_that_raises():
    @filter_jit
    def outer(x):
        return entry(x * 2)

    assert "in entry\n" not in str(fails(filter_jit(lambda x: middle(x)), jnp.array(-1.0)))
    jax.clear_caches()
    assert [name in str(fails(outer, jnp.array(-1.0))) for name in ("outer\n", "in entry\n")] == [True, True]
    # It was traced as a part of `outer`, which has no part in this call.
    assert [name in str(fails(entry, jnp.array(-2.0))) for name in ("outer\n", "in entry\n")] == [False, True]


def test_the_inner_frames_are_dropped():
    error = fails(entry, jnp.array(-1.0))
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_filename)
        traceback = traceback.tb_next
    assert [os.path.basename(file) for file in frames] == [os.path.basename(__file__)]


ONE = jnp.array(1.0)
RAISE = {
    "at once": lambda: error_if(ONE, True, "negative"),
    "branched": lambda: eqx_filter.branched_error_if(ONE, jnp.array(True), 0, ["negative"]),
    "eager": lambda: check_here(-ONE),
    "jit": lambda: entry(-ONE),
    "compiled": lambda: entry.lower(ONE).compile()(-ONE),
    "jitf": lambda: eqx_filter.jitf(middle, filter_fn=lambda leaf: True)(-ONE),
    "pmap": lambda: eqx_filter.filter_pmap(middle)(-ONE[None]),
    "compiled pmap": lambda: eqx_filter.filter_pmap(middle).lower(ONE[None]).compile()(-ONE[None]),
    "wait": lambda: (filter_jit(middle, checks="late")(-ONE), eqx_filter.wait()),
}


@pytest.mark.parametrize("name", RAISE)
def test_the_last_frame_is_the_users_whoever_raises(name):
    traceback = fails(RAISE[name]).__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert os.path.basename(traceback.tb_frame.f_code.co_filename) == os.path.basename(__file__)


def test_outside_of_jit_it_reads_the_same():
    text = str(fails(check_here, jnp.array(-1.0)))
    assert text.startswith("Above is the stack outside of JIT")
    assert "in check_here\n" in text
    assert "EquinoxRuntimeError: negative value\n" in text
    assert "EQX_ON_ERROR" in text


def test_an_ahead_of_time_compiled_function_presents_it_too():
    compiled = entry.lower(jnp.array(1.0)).compile()
    assert compiled(jnp.array(1.0)) == 2
    text = str(fails(compiled, jnp.array(-1.0)))
    assert text.startswith("Above is the stack outside of JIT")
    assert "in entry\n" in text


@pytest.mark.parametrize("donate", ["all", "warn"])
@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_donation_changes_nothing(donate):
    fun = filter_jit(middle, donate=donate)
    assert fun(jnp.array(1.0)) == 2
    assert "in middle\n" in str(fails(fun, jnp.array(-1.0)))


def test_other_errors_pass_through_untouched():
    def explode(x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine(\n|$)") as caught:
        filter_jit(explode)(jnp.array(1.0))
    assert not caught.value.__suppress_context__

    def explode_later(x):
        return jax.pure_callback(explode, x, x)

    with pytest.raises((ValueError, RuntimeError), match="mine") as caught:
        filter_jit(explode_later)(jnp.array(1.0))
    assert "EQX_ON_ERROR" not in str(caught.value)


def test_a_failure_in_a_program_that_a_callback_runs_is_presented_once(caplog):
    def outer(x):
        return jax.pure_callback(lambda x: entry(jnp.asarray(x)), x, x)

    text = str(fails(filter_jit(outer), jnp.array(-1.0)))
    assert text.count("Above is the stack") == 1
    assert "EquinoxRuntimeError: negative value\n" in text
    assert caplog.records == []


def test_threads_get_each_their_own_error():
    done = run(
        """
        import threading

        @eqx_filter.filter_jit
        def fun(x, limit):
            return eqx_filter.error_if(x, x > limit, "got {x_}", x_=x) * 2

        found = {}

        def work(i):
            for repeat in range(20):
                number = 100 * i + repeat
                assert fun(jnp.array(0), jnp.array(1)) == 0
                try:
                    fun(jnp.array(number), jnp.array(-1))
                except eqx_filter.EquinoxRuntimeError as error:
                    found[number] = f"EquinoxRuntimeError: got {number}\\n" in str(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 80 and all(found.values()), found
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_at_exit_nothing_is_said_twice():
    done = run(
        """
        fun = eqx_filter.filter_jit(lambda x: eqx_filter.error_if(x, x < 0, "negative"))
        fun(jnp.array(1.0))
        fun(jnp.array(-1.0))
        """
    )
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.count("EquinoxRuntimeError: negative") == 1
    assert "callback" not in done.stderr


def test_an_error_that_was_caught_leaves_nothing_behind_at_exit():
    done = run(
        """
        for jit in (jax.jit, eqx_filter.filter_jit):
            fun = jit(lambda x: eqx_filter.error_if(x, x < 0, "negative"))
            try:
                fun(jnp.array(-1.0)).block_until_ready()
            except Exception as error:
                print("negative" in str(error))
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\nTrue\n", "")


@pytest.mark.parametrize("jit", ["jax.jit", "eqx_filter.filter_jit"])
def test_nor_does_one_of_a_program_that_ran_while_python_went_on(jit):
    start = f"""
        long = jax.jit(lambda x: jax.lax.fori_loop(0, 100, lambda _, x: x @ x / 300, x)[0, 0])
        fun = {jit}(lambda x: eqx_filter.error_if(x, x < 0, "negative"))
        x = -long(jnp.ones((300, 300)))
    """
    done = run(
        textwrap.dedent(start)
        + textwrap.dedent(
            """
            try:
                jax.block_until_ready(fun(x))
            except Exception as error:
                print("negative" in str(error))
            """
        )
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    done = run(textwrap.dedent(start) + "\njax.block_until_ready(fun(x))")
    assert (done.returncode, done.stderr.count("negative\n"), done.stderr.count("atexit")) == (1, 1, 0)


def test_checks_without_arrays_touch_no_backend():
    done = run(
        """
        from jax._src import xla_bridge
        eqx_filter.error_if(1.0, False, "bad")
        eqx_filter.error_if("x", True, "bad", on_error="off")
        assert not xla_bridge.backends_are_initialized()
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
