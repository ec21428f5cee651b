"""The bar of characters shows rate and time left, rewrites its line on a terminal, and is sparse elsewhere."""

import io
import sys

import jax
import jax.numpy as jnp
import pytest

import eqx_loops
import eqx_loops._bar_progress_meter

TextBar, bar_line = eqx_loops._bar_progress_meter.TextBar, eqx_loops._bar_progress_meter.bar_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(meter, values):
    state = meter.init()
    for value in values:
        state = meter.step(state, jnp.asarray(value))
    meter.close(state)
    jax.effects_barrier()


@pytest.mark.parametrize(
    ("progress", "taken", "line"),
    [
        (0.0, 0.0, "[----------]   0.0 %  00:00 taken, ? left, ? %/s"),
        (0.25, 10.0, "[##--------]  25.0 %  00:10 taken, 00:30 left, 2.5 %/s"),
        (0.5, 3.0, "[#####-----]  50.0 %  00:03 taken, 00:03 left, 16.7 %/s"),
        (0.5, 3700.0, "[#####-----]  50.0 %  1:01:40 taken, 1:01:40 left, 0.0 %/s"),
        (1.0, 50.0, "[##########] 100.0 %  00:50 taken, 00:00 left, 2.0 %/s"),
    ],
)
def test_the_line_shows_rate_and_time_left(progress, taken, line):
    assert bar_line(progress, taken, width=10) == line


def test_a_terminal_shows_one_line_that_is_rewritten(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    run(eqx_loops.BarProgressMeter(width=4), [0.25, 0.251, 0.5, 1.0])
    text = sys.stderr.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert [line[:6] for line in text.split("\r")[1:]] == ["[----]", "[#---]", "[##--]", "[####]"]


def test_a_line_covers_the_longer_one_before(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    times = iter([0.0, 0.0, 10000.0, 10001.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    bar = TextBar(width=4)
    bar.show(0.01)
    bar.show(0.99)
    before, after = sys.stderr.getvalue().split("\r")[2:]
    assert len(after) == len(before) > len(after.rstrip())


def test_a_file_gets_sparse_lines(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    run(eqx_loops.BarProgressMeter(width=10), [i / 64 for i in range(1, 65)])
    lines = sys.stderr.getvalue().splitlines()
    assert [line.partition("%")[0].split()[-1] for line in lines] == [
        "0.0", "10.9", "21.9", "32.8", "43.8", "54.7", "65.6", "76.6", "87.5", "98.4", "100.0",
    ]  # fmt: skip


def test_a_batch_in_a_compiled_and_differentiated_loop_has_one_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    meter = eqx_loops.BarProgressMeter()

    def loss(speeds):
        def one(speed):
            def body(i, state):
                return meter.step(state, speed * (i + 1) / 4)

            meter.close(jax.lax.fori_loop(0, 4, body, meter.init()))
            return speed**2

        return jax.vmap(one)(speeds).sum()

    jax.jit(jax.grad(loss))(jnp.array([1.0, 0.5])).block_until_ready()
    jax.effects_barrier()
    lines = sys.stderr.getvalue().splitlines()
    assert [line.partition("%")[0].split()[-1] for line in lines] == ["0.0", "12.5", "25.0", "37.5", "50.0", "100.0"]


def test_the_width_must_be_at_least_one():
    with pytest.raises(
        ValueError, match=r"`BarProgressMeter\(width=...\)` must be at least 1; got 0. Write the number"
    ):
        eqx_loops.BarProgressMeter(width=0)
