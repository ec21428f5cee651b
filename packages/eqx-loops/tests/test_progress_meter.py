"""Meters print what they should, once, however the program that reports to them is transformed."""

import jax
import jax.numpy as jnp
import pytest

import eqx_loops

try:
    import equinox.internal as equinox_internal
except ImportError:
    equinox_internal = None


def printed(capsys, fun, *args):
    """Return what a function prints to the standard output, as lines."""
    jax.effects_barrier()
    capsys.readouterr()
    jax.block_until_ready(fun(*args))
    jax.effects_barrier()
    return capsys.readouterr().out.splitlines()


def report(meter, values):
    state = meter.init()
    for value in values:
        state = meter.step(state, jnp.asarray(value))
    meter.close(state)


def loop(meter, speed, steps=10):
    """Report the progress of a scan, and return something to differentiate."""

    share = jax.lax.stop_gradient(speed)

    def body(carry, i):
        x, state = carry
        return (jnp.sin(1.1 * x), meter.step(state, jnp.minimum(share * (i + 1) / steps, 1.0))), None

    (x, state), _ = jax.lax.scan(body, (speed, meter.init()), jnp.arange(float(steps)))
    meter.close(state)
    return x


TENTHS = ["0.00%", "20.00%", "30.00%", "50.00%", "60.00%", "80.00%", "90.00%", "100.00%"]
METER = eqx_loops.TextProgressMeter(minimum_increase=0.1)

SEQUENCES = [
    ([], ["0.00%", "100.00%"]),
    ([0.0, 0.05, 0.11, 0.3, 0.35, 0.99, 1.0], ["0.00%", "11.00%", "30.00%", "99.00%", "100.00%"]),
    ([1.0, 1.0], ["0.00%", "100.00%", "100.00%"]),
    ([0.5, 0.3, 0.35, 0.45], ["0.00%", "50.00%", "100.00%"]),
    ([1.5, 1.75, 0.1], ["0.00%", "150.00%", "175.00%", "100.00%"]),
    ([0.5, float("nan")], ["0.00%", "50.00%", "100.00%"]),
    ([0.12345], ["0.00%", "12.35%", "100.00%"]),
]


@pytest.mark.parametrize(("values", "lines"), SEQUENCES)
def test_percentages_are_printed_when_progress_has_grown_enough(capsys, values, lines):
    assert printed(capsys, report, METER, values) == lines


@pytest.mark.skipif(equinox_internal is None, reason="Equinox is not installed")
@pytest.mark.parametrize("minimum", [0.02, 0.1, 0, 0.5])
@pytest.mark.parametrize("values", [values for values, _ in SEQUENCES])
def test_text_is_that_of_equinox(capsys, minimum, values):
    theirs = equinox_internal.TextProgressMeter(minimum_increase=minimum)
    ours = eqx_loops.TextProgressMeter(minimum_increase=minimum)
    assert printed(capsys, report, ours, values) == printed(capsys, report, theirs, values)


@pytest.mark.skipif(equinox_internal is None, reason="Equinox is not installed")
@pytest.mark.parametrize("transform", [jax.jit, lambda f: f, jax.grad], ids=["jit", "eager", "grad"])
def test_text_is_that_of_equinox_in_a_loop(capsys, transform):
    ours, theirs = (
        printed(capsys, transform(lambda x, meter=meter: loop(meter, x)), 0.75)
        for meter in (METER, equinox_internal.TextProgressMeter(minimum_increase=0.1))
    )
    assert ours == theirs


@pytest.mark.skipif(equinox_internal is None, reason="Equinox is not installed")
@pytest.mark.parametrize("speeds", [[1.0, 0.5], [1.0, 1.0], [0.2, 1.0]])
def test_text_is_that_of_equinox_in_a_batch(capsys, speeds):
    ours, theirs = (
        printed(capsys, jax.vmap(lambda x, meter=meter: loop(meter, x)), jnp.array(speeds))
        for meter in (METER, equinox_internal.TextProgressMeter(minimum_increase=0.1))
    )
    assert ours == theirs


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: f,
        jax.jit,
        jax.grad,
        lambda f: jax.jit(jax.grad(f)),
        lambda f: jax.grad(jax.checkpoint(f)),
        lambda f: jax.jit(jax.grad(jax.checkpoint(f))),
        jax.hessian,
        lambda f: lambda x: jax.vmap(f)(jnp.stack([x, x])),
        lambda f: lambda x: jax.jvp(f, (x,), (x,)),
    ],
    ids=["eager", "jit", "grad", "jit_grad", "grad_checkpoint", "jit_grad_checkpoint", "hessian", "vmap", "jvp"],
)
def test_one_run_is_shown_once(capsys, transform):
    assert printed(capsys, transform(lambda x: loop(METER, x)), jnp.array(1.0)) == TENTHS


def test_the_slowest_of_a_batch_is_shown(capsys):
    lines = printed(capsys, jax.jit(jax.vmap(lambda speed: loop(METER, speed))), jnp.array([1.0, 0.5]))
    assert lines == ["0.00%", "15.00%", "30.00%", "45.00%", "100.00%"]
    nested = jax.vmap(jax.vmap(lambda speed: loop(METER, speed)))
    assert printed(capsys, nested, jnp.array([[1.0, 0.5], [1.0, 0.2]])) == ["0.00%", "12.00%", "100.00%"]


def test_a_batched_while_loop_shows_its_slowest_element(capsys):
    """Its carry is selected, so that the state of the meter has a batch axis too."""

    def run(steps):
        def body(carry):
            i, state = carry
            return i + 1, METER.step(state, (i + 1) / steps)

        _, state = jax.lax.while_loop(lambda carry: carry[0] < steps, body, (jnp.array(0.0), METER.init()))
        METER.close(state)
        return steps

    lines = printed(capsys, jax.vmap(run), jnp.array([2.0, 4.0]))
    assert lines == ["0.00%", "25.00%", "50.00%", "75.00%", "100.00%"]


def test_each_run_in_a_loop_has_its_bar(capsys):
    twice = jax.jit(lambda x: jax.lax.scan(lambda x, _: (loop(METER, x), None), x, None, length=2)[0])
    # sin reduces the speed of the second run.
    assert printed(capsys, twice, 1.0).count("0.00%") == 2


def test_a_compiled_program_has_a_new_bar_in_each_run(capsys):
    run = jax.jit(lambda x: loop(METER, x))
    assert printed(capsys, lambda: [run(1.0), run(1.0)]) == 2 * TENTHS


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "lax"},
        {"kind": "bounded"},
        {"kind": "segmented"},
        {"kind": "segmented", "levels": 3},
        {"kind": "checkpointed", "checkpoints": 2},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_steps_of_a_loop_are_shown_once(capsys, options):
    """Also those that are run again on the way back."""

    def run(x):
        def body(carry):
            i, x, state = carry
            return i + 1, jnp.sin(1.1 * x), METER.step(state, (i + 1) / 10)

        first = jnp.array(0.0), x, METER.init()
        _, x, state = eqx_loops.while_loop(lambda carry: carry[0] < 10, body, first, max_steps=12, **options)
        METER.close(state)
        return x

    transforms = [lambda f: f] if options["kind"] == "lax" else [lambda f: f, jax.grad]
    for transform in transforms:
        assert printed(capsys, jax.jit(transform(run)), jnp.array(0.5)) == TENTHS
        batch = jax.jit(jax.vmap(transform(run)))
        assert printed(capsys, batch, jnp.array([0.5, 0.6])) == TENTHS


def test_steps_that_are_run_again_after_the_end_are_not_shown(capsys):
    def run():
        state = METER.init()
        METER.close(state)
        return METER.step(state, 0.5)

    assert printed(capsys, run) == ["0.00%", "100.00%"]


def test_closing_twice_shows_the_end_once(capsys):
    def run():
        state = METER.init()
        METER.close(state)
        METER.close(state)

    assert printed(capsys, run) == ["0.00%", "100.00%"]


@pytest.mark.parametrize("progress", [1, True, jnp.float16(1), jnp.bfloat16(1)], ids=["int", "bool", "f16", "bf16"])
def test_progress_may_have_any_real_dtype(capsys, progress):
    assert printed(capsys, report, METER, [progress]) == ["0.00%", "100.00%"]


def test_progress_has_no_derivative(capsys):
    def f(x):
        METER.close(METER.step(METER.init(), x))
        return x**2

    assert jax.grad(f)(0.5) == 1.0
    assert jax.jvp(f, (0.5,), (1.0,)) == (0.25, 1.0)


@pytest.mark.parametrize(
    "meter", [eqx_loops.TextProgressMeter(), eqx_loops.BarProgressMeter()], ids=lambda meter: type(meter).__name__
)
def test_progress_must_be_a_scalar(meter):
    with pytest.raises(
        ValueError, match=r"`AbstractProgressMeter.step\(progress=...\)` must be a scalar; got `float32\[2\]`"
    ):
        meter.step(meter.init(), jnp.ones(2))


def test_the_silent_meter_prints_nothing(capsys):
    assert printed(capsys, jax.jit(lambda x: loop(eqx_loops.NoProgressMeter(), x)), 1.0) == []


def test_the_silent_meter_adds_nothing_to_the_program():
    text = str(jax.make_jaxpr(lambda x: loop(eqx_loops.NoProgressMeter(), x))(1.0))
    assert "callback" not in text


def test_the_interface_has_no_instances():
    with pytest.raises(TypeError, match="abstract"):
        eqx_loops.AbstractProgressMeter()
