"""Build a model from scratch: modules of one's own, gradient descent by hand, and no layer or optimiser of a library.

A perceptron of two hidden layers learns `sin(3 x) + x²` from noisy samples. A picture shows what it has learnt.
"""

import argparse
import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from rich.console import Console
from rich.progress import track

import eqx


class Dense(eqx.Module):
    """The affine map `W x + b` of `f32[in]` to `f32[out]`."""

    weight: jax.Array  # f32[out, in]
    bias: jax.Array  # f32[out]

    def __init__(self, in_size, out_size, key):
        self.weight = jr.normal(key, (out_size, in_size)) / math.sqrt(in_size)
        self.bias = jnp.zeros(out_size)

    def __call__(self, x):
        return self.weight @ x + self.bias


class Perceptron(eqx.Module):
    """Dense layers with tanh between them."""

    layers: list[Dense]

    def __init__(self, sizes, key):
        keys = jr.split(key, len(sizes) - 1)
        self.layers = [Dense(*pair, key=k) for pair, k in zip(itertools.pairwise(sizes), keys, strict=True)]

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = jnp.tanh(layer(x))
        return self.layers[-1](x)


def target(x):
    return np.sin(3 * x) + x**2


@eqx.filter_jit
def step(model, x, y, rate):
    """Return the model one step of gradient descent further, and the loss before it."""

    @eqx.filter_value_and_grad
    def loss_and_grad(model):
        return jnp.mean((jax.vmap(model)(x) - y) ** 2)

    loss, grad = loss_and_grad(model)
    return jax.tree.map(lambda p, g: p - rate * g, model, grad), loss


def draw(picture_file, model, x, y, losses):
    """Draw the loss of each step, and what was learnt beside what was asked for."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", facecolor="white")
    left.plot(losses, color="#1f4e8c")
    left.set(yscale="log", xlabel="step", ylabel="mean squared error", title="Training loss")
    grid = np.linspace(-2, 2, 200, dtype=np.float32)
    right.plot(x, y, ".", color="#9db8d9", label="samples")
    right.plot(grid, target(grid), "--", color="#222222", label="sin(3 x) + x²")
    right.plot(grid, jax.vmap(model)(grid[:, None])[:, 0], color="#c62828", label="learnt")
    right.set(xlabel="x", title="The function")
    right.legend(frameon=False)
    figure.savefig(picture_file, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000, help="how many steps to train (4000)")
    parser.add_argument("--rate", type=float, default=0.02, help="the learning rate (0.02)")
    parser.add_argument("--seed", type=int, default=0, help="decides the weights and the samples (0)")
    parser.add_argument(
        "--out", type=Path, default=Path("from-scratch-out"), help="the folder to write to (from-scratch-out)"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    random = np.random.default_rng(arguments.seed)
    x = random.uniform(-2, 2, (256, 1)).astype(np.float32)
    y = (target(x) + 0.1 * random.normal(size=x.shape)).astype(np.float32)
    model = Perceptron([1, 32, 32, 1], jr.key(arguments.seed))
    print(model)

    losses = []
    for _ in track(range(arguments.steps), "training", console=Console(highlight=False)):
        model, loss = step(model, x, y, jnp.asarray(arguments.rate))
        losses.append(loss)
    print(f"mean squared error: {losses[0]:.4f} before, {losses[-1]:.4f} after; the noise has 0.0100")
    draw(arguments.out / "from_scratch.png", model, x, y, np.array(losses))
    print(f"drew {arguments.out / 'from_scratch.png'}")


if __name__ == "__main__":
    main()
