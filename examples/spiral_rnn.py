"""Train a recurrent network to tell spirals that turn left from spirals that turn right.

Each spiral is a sequence of points, made up on the spot. A GRU goes through it by `jax.lax.scan`, and decides by its last
hidden state. A picture shows the loss, spirals that it has not seen, and how sure it gets of them point by point.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import eqx


class RNN(eqx.Module):
    """Go through a sequence of points, and give the log-odds that it turns left after each of them.

    It takes one sequence, `f32[length, 2]`, and returns `f32[length]`.
    """

    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear

    def __init__(self, hidden_size, key):
        cell_key, readout_key = jr.split(key)
        self.cell = eqx.nn.GRUCell(2, hidden_size, key=cell_key)
        # Orthogonal weights keep what is remembered at its size.
        self.cell = eqx.nn.reinit(self.cell, "weight_hh", jax.nn.initializers.orthogonal(), key=cell_key)
        self.readout = eqx.nn.Linear(hidden_size, "scalar", key=readout_key)

    def __call__(self, points):
        def step(hidden, point):
            hidden = self.cell(point, hidden)
            return hidden, self.readout(hidden)

        return jax.lax.scan(step, jnp.zeros(self.cell.hidden_size), points)[1]


def make_spirals(number, length, key):
    """Return spirals `f[number, length, 2]` with a little noise, and whether each turns left, `f[number]`."""
    left_key, start_key, noise_key = jr.split(key, 3)
    left = jr.bernoulli(left_key, shape=(number,)).astype(float)
    start = jr.uniform(start_key, (number, 1), maxval=2 * jnp.pi)
    time = jnp.linspace(0, 1, length)[None]
    angle = start + (2 * left - 1)[:, None] * 4 * jnp.pi * time
    radius = 0.1 + time
    points = jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle)], axis=-1)
    return points + 0.1 * jr.normal(noise_key, points.shape), left


def loss_of(model, points, left):
    """Return the mean cross-entropy of the decisions at the end."""
    return optax.sigmoid_binary_cross_entropy(jax.vmap(model)(points)[:, -1], left).mean()


@eqx.filter_jit
def odds_of(model, points):
    """Return the log-odds after each point of each spiral."""
    return jax.vmap(model)(points)


def train(model, *, steps, batch_size, length, rate, key, console):
    """Return the trained model and the loss of each step."""
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(rate, steps)))

    @eqx.filter_jit
    def step(model, optimiser_state, key):
        points, left = make_spirals(batch_size, length, key)
        loss, gradients = eqx.filter_value_and_grad(loss_of)(model, points, left)
        updates, optimiser_state = optimiser.update(gradients, optimiser_state)
        return eqx.apply_updates(model, updates), optimiser_state, loss

    optimiser_state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
    losses = []
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, loss {task.fields[loss]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=steps, loss="-")
        for i, step_key in enumerate(jr.split(key, steps)):
            model, optimiser_state, loss = step(model, optimiser_state, step_key)
            losses.append(loss)
            progress.advance(bar)
            if i % 20 == 19 or i == steps - 1:  # Not each time: to read a loss is to wait for it.
                progress.update(bar, loss=f"{loss:.4f}")
    return model, np.array(losses)


def draw(picture_file, losses, points, left, odds):
    """Draw the loss, spirals that were held out, and how sure the network is after each point."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    colours = ("#c62828", "#1f4e8c")
    figure = plt.figure(figsize=(13, 5.5), layout="constrained", facecolor="white")
    first, middle, last = figure.subfigures(1, 3, width_ratios=[1, 1.1, 1])
    curve, certainty = first.subplots(), last.subplots()
    curve.plot(losses, color="#222222", linewidth=0.8)
    curve.set(yscale="log", xlabel="step", ylabel="cross-entropy", title="Training loss")

    middle.suptitle("Held-out spirals: blue turn left, red turn right")
    for i, axes in enumerate(middle.subplots(3, 3).ravel()):
        axes.plot(*points[i].T, color=colours[int(left[i])], linewidth=1.2)
        axes.plot(*points[i, 0], "o", color="#222222", markersize=4)
        axes.set(title="recognised" if (odds[i, -1] > 0) == left[i] else "mistaken", aspect="equal")
        axes.set_axis_off()

    for i in range(min(60, len(left))):
        certainty.plot(jax.nn.sigmoid(odds[i]), color=colours[int(left[i])], linewidth=0.7, alpha=0.6)
    certainty.set(xlabel="point", ylabel="probability of a left turn", title="How sure the network is, point by point")
    for axes in (curve, certainty):
        axes.grid(color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture_file, dpi=110)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--steps", type=_at_least(1), default=400, help="how many batches to train on (400)")
    add("--batch-size", type=_at_least(1), default=64, help="how many spirals are in a batch (64)")
    add("--length", type=_at_least(2), default=40, help="how many points are in a spiral (40)")
    add("--hidden-size", type=_at_least(1), default=24, help="the size of the hidden state (24)")
    add("--rate", type=float, default=1e-2, help="the learning rate to start from (0.01)")
    add("--seed", type=_at_least(0), default=0, help="decides the spirals and the weights (0)")
    add("--require", type=float, default=99.0, help="fail below this held-out accuracy in %% (99)")
    add("--out", type=Path, default=Path("spiral-out"), help="the folder to write to (spiral-out)")
    arguments = parser.parse_args()
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=arguments.out):
            pass
    except OSError as error:
        parser.error(f"argument --out: cannot write to {str(arguments.out)!r}: {error.strerror}")
    return arguments


def _at_least(lowest):
    def integer(text):
        if not text.isascii() or not text.isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"must be an integer of at least {lowest}; got {text!r}")
        return int(text)

    return integer


def main():
    arguments = parse_arguments()
    started = time.monotonic()
    model_key, train_key, test_key = jr.split(jr.key(arguments.seed), 3)
    model = RNN(arguments.hidden_size, model_key)
    print(model)
    model, losses = train(
        model,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        length=arguments.length,
        rate=arguments.rate,
        key=train_key,
        console=Console(highlight=False),
    )
    points, left = make_spirals(1000, arguments.length, test_key)
    odds = np.asarray(odds_of(model, points))
    accuracy = 100 * np.mean((odds[:, -1] > 0) == left)
    print(f"held-out accuracy: {accuracy:.1f} %")

    picture_file = arguments.out / "spirals.png"
    draw(picture_file, losses, np.asarray(points), np.asarray(left), odds)
    print(f"drew {picture_file}")
    print(f"took {time.monotonic() - started:.0f} s")
    if accuracy < arguments.require:
        sys.exit(f"the held-out accuracy, {accuracy:.1f} %, is below the required {arguments.require:g} %")


if __name__ == "__main__":
    main()
