"""Train an ensemble at once, and see where its members disagree.

`filter_vmap` over the constructor makes the members, and over the step trains them, in one program. Between the samples
they agree; where there are none they do not, which is what an ensemble is for.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from rich.console import Console
from rich.progress import track

import eqx

OPTIMISER = optax.adam(3e-3)


@eqx.filter_vmap
def make(key):
    """Return one member, and the state of its optimiser; mapped, all of them."""
    model = eqx.nn.MLP(1, 1, width_size=32, depth=2, activation=jnp.tanh, key=key)
    return model, OPTIMISER.init(eqx.filter(model, eqx.is_inexact_array))


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(eqx.if_array(0), eqx.if_array(0), None, None))
def step(model, state, x, y):
    """Return one member a step further; mapped, all of them, on the same data."""

    @eqx.filter_value_and_grad
    def loss_and_grad(model):
        return jnp.mean((jax.vmap(model)(x) - y) ** 2)

    loss, grad = loss_and_grad(model)
    updates, state = OPTIMISER.update(grad, state)
    return eqx.apply_updates(model, updates), state, loss


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(eqx.if_array(0), None))
def predict(model, x):
    """Return what one member says, `f32[batch, 1]`; mapped, `f32[members, batch, 1]`."""
    return jax.vmap(model)(x)


def draw(picture_file, x, y, grid, predictions, losses):
    """Draw the loss of each member, and the members with their mean and spread."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", facecolor="white")
    left.plot(losses, linewidth=0.8)
    left.set(yscale="log", xlabel="step", ylabel="mean squared error", title="Training loss of each member")
    mean, spread = predictions.mean(axis=0)[:, 0], predictions.std(axis=0)[:, 0]
    right.fill_between(grid[:, 0], mean - 2 * spread, mean + 2 * spread, color="#9db8d9", label="mean ± 2 spreads")
    right.plot(grid, predictions[..., 0].T, color="#1f4e8c", linewidth=0.5, alpha=0.6)
    right.plot(x, y, ".", color="#c62828", label="samples")
    right.set(xlabel="x", ylim=(-3, 3), title="What the members say")
    right.legend(frameon=False)
    figure.savefig(picture_file, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=16, help="how many members (16)")
    parser.add_argument("--steps", type=int, default=2000, help="how many steps to train (2000)")
    parser.add_argument("--seed", type=int, default=0, help="decides the weights and the samples (0)")
    parser.add_argument("--out", type=Path, default=Path("ensemble-out"), help="the folder to write to (ensemble-out)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    random = np.random.default_rng(arguments.seed)
    # Two stretches with samples, and a gap between them.
    x = np.concatenate([random.uniform(-2, -0.7, 40), random.uniform(0.7, 2, 40)]).astype(np.float32)[:, None]
    y = (np.sin(3 * x) + 0.05 * random.normal(size=x.shape)).astype(np.float32)
    models, states = make(jr.split(jr.key(arguments.seed), arguments.members))

    losses = []
    for _ in track(range(arguments.steps), "training", console=Console(highlight=False)):
        models, states, loss = step(models, states, x, y)
        losses.append(loss)

    grid = np.linspace(-3, 3, 241, dtype=np.float32)[:, None]
    predictions = np.asarray(predict(models, grid))
    spread = predictions.std(axis=0)[:, 0]
    sampled = (abs(grid[:, 0]) > 0.7) & (abs(grid[:, 0]) < 2)
    print(f"spread where there are samples: {spread[sampled].mean():.3f}; elsewhere: {spread[~sampled].mean():.3f}")
    draw(arguments.out / "ensemble.png", x, y, grid, predictions, np.array(losses))
    print(f"drew {arguments.out / 'ensemble.png'}")


if __name__ == "__main__":
    main()
