"""Train a multilayer perceptron to tell the two arms of a spiral apart, with Optax.

The whole of a usual training loop: a model of layers, a loss, a compiled step, minibatches, accuracy on held-out points. A
picture shows the boundary that was learnt.
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


def make_data(count, random):
    """Return points `f32[count, 2]` of two interlaced spirals, and which spiral each is of, `f32[count]`."""
    turn = random.uniform(0.5, 3.5 * np.pi, count)
    arm = random.integers(0, 2, count)
    angle = turn + np.pi * arm
    points = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1) / 11
    return (points + 0.02 * random.normal(size=points.shape)).astype(np.float32), arm.astype(np.float32)


def loss_of(model, points, arms):
    """Return the mean cross-entropy of a batch."""
    logits = jax.vmap(model)(points)
    return optax.sigmoid_binary_cross_entropy(logits, arms).mean()


@eqx.filter_jit
def accuracy_of(model, points, arms):
    """Return the fraction of points that are on the right side of the boundary."""
    return jnp.mean((jax.vmap(model)(points) > 0) == (arms == 1))


def train(model, points, arms, *, steps, batch_size, rate, random, console):
    """Return the trained model and the loss of each step."""
    optimiser = optax.adam(rate)
    state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state, points, arms):
        loss, grad = eqx.filter_value_and_grad(loss_of)(model, points, arms)
        updates, state = optimiser.update(grad, state)
        return eqx.apply_updates(model, updates), state, loss

    losses = []
    for _ in track(range(steps), "training", console=console):
        batch = random.integers(0, len(points), batch_size)
        model, state, loss = step(model, state, points[batch], arms[batch])
        losses.append(loss)
    return model, np.array(losses)


def draw(picture_file, model, points, arms, losses):
    """Draw the loss of each step, and the held-out points over what the model makes of the plane."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", facecolor="white")
    left.plot(losses, color="#1f4e8c", linewidth=0.8)
    left.set(yscale="log", xlabel="step", ylabel="cross-entropy", title="Training loss")
    axis = np.linspace(-1.2, 1.2, 160, dtype=np.float32)
    plane = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    chance = jax.nn.sigmoid(jax.vmap(model)(plane)).reshape(160, 160)
    right.imshow(chance, extent=(-1.2, 1.2, -1.2, 1.2), origin="lower", cmap="RdBu_r", vmin=0, vmax=1, alpha=0.6)
    right.scatter(*points.T, c=arms, cmap="RdBu_r", s=8, edgecolors="#222222", linewidths=0.3)
    right.set(title="Held-out points, and the boundary learnt")
    figure.savefig(picture_file, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="how many steps to train (2000)")
    parser.add_argument("--batch-size", type=int, default=128, help="how many points to take at a time (128)")
    parser.add_argument("--rate", type=float, default=3e-3, help="the learning rate (0.003)")
    parser.add_argument("--seed", type=int, default=0, help="decides the weights and the points (0)")
    parser.add_argument("--out", type=Path, default=Path("mlp-out"), help="the folder to write to (mlp-out)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    random = np.random.default_rng(arguments.seed)
    points, arms = make_data(2000, random)
    held_out = make_data(500, random)
    model = eqx.nn.MLP(2, "scalar", width_size=64, depth=3, key=jr.key(arguments.seed))
    model, losses = train(
        model,
        points,
        arms,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        rate=arguments.rate,
        random=random,
        console=Console(highlight=False),
    )
    print(f"held-out accuracy: {100 * accuracy_of(model, *held_out):.1f} %")
    draw(arguments.out / "mlp.png", model, *held_out, losses)
    print(f"drew {arguments.out / 'mlp.png'}")


if __name__ == "__main__":
    main()
