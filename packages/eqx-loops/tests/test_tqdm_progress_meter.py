"""A bar of tqdm is drawn every so many steps; without tqdm it says what to do."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import pytest

import eqx_loops

try:
    import equinox.internal as equinox_internal
except ImportError:
    equinox_internal = None

has_tqdm = importlib.util.find_spec("tqdm") is not None


def bars(capsys, meter, values):
    """Return the bars that were drawn, each once, without the times."""
    capsys.readouterr()
    state = meter.init()
    for value in values:
        state = meter.step(state, jnp.asarray(value))
    meter.close(state)
    jax.effects_barrier()
    drawn = re.sub(r"\[.*?\]", "", capsys.readouterr().err).replace("\n", "\r").split("\r")
    return list(dict.fromkeys(filter(None, map(str.strip, drawn))))


@pytest.mark.skipif(not has_tqdm, reason="tqdm is not installed")
def test_the_bar_is_drawn_at_the_first_step_and_every_so_many(capsys):
    drawn = bars(capsys, eqx_loops.TqdmProgressMeter(refresh_steps=3), [0.1, 0.2, 0.3, 0.4, 0.5])
    assert [line.partition("|")[0] for line in drawn] == ["0.00%", "10.00%", "40.00%", "100.00%"]


@pytest.mark.skipif(not has_tqdm or equinox_internal is None, reason="tqdm and Equinox are not both installed")
@pytest.mark.parametrize("refresh_steps", [1, 2, 20])
def test_the_bars_are_those_of_equinox(capsys, refresh_steps):
    values = [0.0, 0.25, 0.5, 0.75]
    ours = bars(capsys, eqx_loops.TqdmProgressMeter(refresh_steps), values)
    assert ours == bars(capsys, equinox_internal.TqdmProgressMeter(refresh_steps), values)


@pytest.mark.skipif(not has_tqdm, reason="tqdm is not installed")
def test_a_batch_in_a_compiled_loop_has_one_bar(capsys):
    meter = eqx_loops.TqdmProgressMeter(refresh_steps=1)

    def run(speed):
        def body(i, state):
            return meter.step(state, speed * (i + 1) / 2)

        meter.close(jax.lax.fori_loop(0, 2, body, meter.init()))
        return speed

    jax.jit(jax.vmap(run))(jnp.array([1.0, 0.5]))
    jax.effects_barrier()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "25.00%" in error
    assert "50.00%" in error
    assert "75.00%" not in error


def test_without_tqdm_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"`TqdmProgressMeter\(\)` must find tqdm; got none. Install it by"):
        eqx_loops.TqdmProgressMeter()


@pytest.mark.skipif(not has_tqdm, reason="tqdm is not installed")
def test_the_steps_must_be_at_least_one():
    with pytest.raises(
        ValueError, match=r"`TqdmProgressMeter\(refresh_steps=...\)` must be at least 1; got 0. Write 1"
    ):
        eqx_loops.TqdmProgressMeter(refresh_steps=0)
