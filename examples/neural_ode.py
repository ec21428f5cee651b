"""Train a neural ordinary differential equation with Diffrax, which was written for Equinox and runs on eqx unchanged.

The trajectories of a damped pendulum are all that is known of it. A small network learns the vector field that
they follow: the loss is the distance between the trajectories and the solver's, and its gradient goes through the solver, an
adaptive Runge-Kutta method, by a loop with checkpoints. It needs `pip install diffrax`, and no Equinox.
"""

import argparse
import time
from pathlib import Path

# First, so that Diffrax finds eqx where it looks for Equinox.
import eqx.equinox_alias  # noqa: F401 isort: skip

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from rich.console import Console
from rich.progress import track

import eqx


class Field(eqx.Module):
    """The right-hand side of `dy/dt = f(y)`, for `y` of shape `f32[2]`."""

    network: eqx.nn.MLP

    def __init__(self, key):
        self.network = eqx.nn.MLP(2, 2, width_size=48, depth=2, activation=jnp.tanh, key=key)

    def __call__(self, t, y, args):
        return self.network(y)


def pendulum(t, y, args):
    """Return the field that is to be learnt, for an angle and its speed."""
    angle, speed = y
    return jnp.stack([speed, -2 * jnp.sin(angle) - 0.2 * speed])


def solve(field, start, times):
    """Return the trajectory `f32[times, 2]` that `field` takes from `start`."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Tsit5(),
        t0=times[0],
        t1=times[-1],
        dt0=times[1] - times[0],
        y0=start,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
        adjoint=diffrax.RecursiveCheckpointAdjoint(),
    )
    return solution.ys


def train(field, times, trajectories, *, steps, batch_size, rate, seed, console):
    """Return the trained field and the loss of each step; the first half of the steps sees the beginnings alone."""
    optimiser = optax.adabelief(rate)
    state = optimiser.init(eqx.filter(field, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(field, state, times, trajectories):
        @eqx.filter_value_and_grad
        def loss_and_grad(field):
            solved = jax.vmap(solve, in_axes=(None, 0, None))(field, trajectories[:, 0], times)
            return jnp.mean((solved - trajectories) ** 2)

        loss, grad = loss_and_grad(field)
        updates, state = optimiser.update(grad, state)
        return eqx.apply_updates(field, updates), state, loss

    random = np.random.default_rng(seed)
    losses = []
    for count in track(range(steps), "training", console=console):
        batch = random.choice(len(trajectories), batch_size, replace=False)
        length = len(times) // 5 if count < steps // 2 else len(times)
        field, state, loss = step(field, state, times[:length], trajectories[batch, :length])
        losses.append(loss)
    return field, np.array(losses)


def draw(picture_file, field, times, trajectories, losses):
    """Draw the loss of each step, and held-out trajectories beside those of the field that was learnt."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", facecolor="white")
    left.plot(losses, color="#1f4e8c", linewidth=0.8)
    left.set(yscale="log", xlabel="step", ylabel="mean squared error", title="Training loss")
    for trajectory in trajectories:
        right.plot(*trajectory.T, "--", color="#222222", linewidth=1)
        right.plot(*solve(field, trajectory[0], times).T, color="#c62828", linewidth=1.5)
    right.set(xlabel="angle", ylabel="speed", title="Held out: dashed, asked for; solid, learnt")
    figure.savefig(picture_file, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="how many steps to train (500)")
    parser.add_argument("--batch-size", type=int, default=32, help="how many trajectories to take at a time (32)")
    parser.add_argument("--rate", type=float, default=3e-3, help="the learning rate (0.003)")
    parser.add_argument("--seed", type=int, default=0, help="decides the weights and where trajectories begin (0)")
    parser.add_argument(
        "--out", type=Path, default=Path("neural-ode-out"), help="the folder to write to (neural-ode-out)"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    starts = jr.uniform(jr.key(arguments.seed), (256, 2), minval=-2.0, maxval=2.0)
    times = np.linspace(0, 10, 50, dtype=np.float32)
    trajectories = np.asarray(jax.jit(jax.vmap(lambda start: solve(pendulum, start, times)))(starts))
    known, held_out = trajectories[:-4], trajectories[-4:]

    field, losses = train(
        Field(jr.key(arguments.seed + 1)),
        times,
        known,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        rate=arguments.rate,
        seed=arguments.seed,
        console=Console(highlight=False),
    )
    solved = jax.vmap(solve, in_axes=(None, 0, None))(field, held_out[:, 0], times)
    print(f"held-out trajectories: mean squared error {np.mean((solved - held_out) ** 2):.4f}")
    draw(arguments.out / "neural_ode.png", field, times, held_out, losses)
    print(f"drew {arguments.out / 'neural_ode.png'}; took {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
