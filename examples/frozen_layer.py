"""Train some parameters, freeze others, and compile it all.

A network is trained on a wave. Then the wave is shifted, and only the last layer may follow: it is trained, the rest is
frozen. AdamW decays whatever it is shown, so the proof is that the frozen layers come out bit for bit as they went in.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from rich.console import Console
from rich.progress import track

import eqx


def loss_of(trained, frozen, x, y):
    """Return the mean squared error of the model that `trained` and `frozen` are the halves of."""
    model = eqx.combine(trained, frozen)
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


def train(model, which, x, y, *, steps, rate, title, console):
    """Return the model with the parameters trained that the tree of bools `which` marks, and the loss of each step."""
    trained, frozen = eqx.partition(model, which)
    optimiser = optax.adamw(rate, weight_decay=1e-3)
    state = optimiser.init(trained)

    @eqx.filter_jit
    def step(trained, frozen, state, x, y):
        loss, grad = eqx.filter_value_and_grad(loss_of)(trained, frozen, x, y)
        updates, state = optimiser.update(grad, state, trained)
        return eqx.apply_updates(trained, updates), state, loss

    losses = []
    for _ in track(range(steps), title, console=console):
        trained, state, loss = step(trained, frozen, state, x, y)
        losses.append(loss)
    return eqx.combine(trained, frozen), np.array(losses)


def last_layer_of(model):
    """Return the tree of bools that marks the weight and the bias of the last layer."""
    nothing = jax.tree.map(lambda _: False, model)
    return eqx.tree_at(lambda m: (m.layers[-1].weight, m.layers[-1].bias), nothing, (True, True))


def draw(picture_file, x, waves, models, losses):
    """Draw the losses of both phases, and each wave with the model that was trained on it."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", facecolor="white")
    names, colours = ("all layers, first wave", "last layer, second wave"), ("#1f4e8c", "#c62828")
    for loss, name, colour in zip(losses, names, colours, strict=True):
        left.plot(loss, color=colour, label=name)
    left.set(yscale="log", xlabel="step", ylabel="mean squared error", title="Training loss")
    left.legend(frameon=False)
    for wave, model, colour in zip(waves, models, colours, strict=True):
        right.plot(x, wave, "--", color=colour, alpha=0.5)
        right.plot(x, jax.vmap(model)(x), color=colour)
    right.set(xlabel="x", title="Dashed: asked for; solid: learnt")
    figure.savefig(picture_file, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="how many steps to train each time (1500)")
    parser.add_argument("--rate", type=float, default=3e-3, help="the learning rate (0.003)")
    parser.add_argument("--seed", type=int, default=0, help="decides the weights (0)")
    parser.add_argument(
        "--out", type=Path, default=Path("frozen-layer-out"), help="the folder to write to (frozen-layer-out)"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)

    x = np.linspace(-2, 2, 256, dtype=np.float32)[:, None]
    waves = np.sin(3 * x), np.sin(3 * x + 1)
    model = eqx.nn.MLP(1, 1, width_size=64, depth=2, activation=jnp.sin, key=jr.key(arguments.seed))
    options = {"steps": arguments.steps, "rate": arguments.rate, "console": console}
    everything = jax.tree.map(eqx.is_inexact_array, model)
    first, first_losses = train(model, everything, x, waves[0], title="all layers", **options)
    second, second_losses = train(first, last_layer_of(first), x, waves[1], title="last layer", **options)

    print(
        f"all layers: error {first_losses[-1]:.4f}; then the last alone: {second_losses[0]:.4f} to {second_losses[-1]:.4f}"
    )
    if not eqx.tree_equal(first.layers[:-1], second.layers[:-1]):
        sys.exit("a frozen layer has moved")
    print("the frozen layers came out bit for bit as they went in")
    draw(arguments.out / "frozen_layer.png", x, waves, (first, second), (first_losses, second_losses))
    print(f"drew {arguments.out / 'frozen_layer.png'}")


if __name__ == "__main__":
    main()
