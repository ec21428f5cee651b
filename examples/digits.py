"""Train a small convolutional network on real handwritten digits.

The 1,797 images come with scikit-learn, so nothing is downloaded. After training, the model is saved, loaded in a new
process into a model that is built from shapes only, and shown to give the same predictions bit for bit. A picture shows
the loss and what the network makes of digits that it has not seen.
"""

import argparse
import os
import subprocess
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
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import eqx


class Network(eqx.Module):
    """Look at an image through two convolutions, and decide by a perceptron.

    It takes one image, `f32[1, 8, 8]`, and returns one score for each digit, `f32[10]`.
    """

    features: eqx.nn.Sequential
    dropout: eqx.nn.Dropout
    classifier: eqx.nn.MLP

    def __init__(self, key):
        first, second, third = jr.split(key, 3)
        self.features = eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(1, 24, kernel_size=3, padding="SAME", key=first),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.Conv2d(24, 48, kernel_size=3, padding="SAME", key=second),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.MaxPool2d(kernel_size=2, stride=2),
                eqx.nn.Lambda(jnp.ravel),
            ]
        )
        self.dropout = eqx.nn.Dropout(0.4)
        self.classifier = eqx.nn.MLP(in_size=48 * 4 * 4, out_size=10, width_size=64, depth=1, key=third)

    def __call__(self, image, key=None):
        return self.classifier(self.dropout(self.features(image), key=key))


def load_data(seed):
    """Return images and labels to train on, and others, a fifth of all, to test with."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype(jnp.result_type(float)) / 16
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels.astype(np.int32), test_size=0.2, stratify=labels, random_state=seed
    )
    return train_x, train_y, test_x, test_y


def shifted(image, key):
    """Return the image moved by at most a pixel each way, so that positions cannot be learnt by heart."""
    return jnp.roll(image, jr.randint(key, (2,), -1, 2), axis=(1, 2))


def loss_of(model, images, labels, key):
    """Return the mean cross-entropy of a batch."""
    shift_keys, dropout_keys = jr.split(key, (2, len(images)))
    scores = jax.vmap(model)(jax.vmap(shifted)(images, shift_keys), dropout_keys)
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


@eqx.filter_jit
def scores_of(model, images):
    """Return one score for each digit for each image, with nothing dropped."""
    return jax.vmap(eqx.nn.inference_mode(model))(images)


def train(model, images, labels, *, epochs, batch_size, rate, key, console):
    """Return the trained model and the loss of each step."""
    steps_per_epoch = len(images) // batch_size
    steps = epochs * steps_per_epoch
    optimiser = optax.adamw(optax.cosine_decay_schedule(rate, steps))

    @eqx.filter_jit
    def step(model, optimiser_state, images, labels, key):
        loss, gradients = eqx.filter_value_and_grad(loss_of)(model, images, labels, key)
        parameters = eqx.filter(model, eqx.is_inexact_array)
        updates, optimiser_state = optimiser.update(gradients, optimiser_state, parameters)
        return eqx.apply_updates(model, updates), optimiser_state, loss

    optimiser_state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
    shuffle = np.random.default_rng(jr.bits(key, (4,)).tolist())
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
        for _ in range(epochs):
            order = shuffle.permutation(len(images))[: steps_per_epoch * batch_size]
            for batch in order.reshape(steps_per_epoch, batch_size):
                key, step_key = jr.split(key)
                model, optimiser_state, loss = step(model, optimiser_state, images[batch], labels[batch], step_key)
                losses.append(loss)
                progress.advance(bar)
            # Once an epoch: to read a loss is to wait for it.
            progress.update(bar, loss=f"{np.mean(losses[-steps_per_epoch:]):.4f}")
    return model, np.array(losses)


def scores_in_new_process(model_file, seed):
    """Return the scores for the test images that a new process finds with the saved model."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--load", model_file, "--seed", str(seed), "--out", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return np.load(Path(folder, "scores.npy"))


def load_and_predict(model_file, seed, scores_file):
    """Load a saved model into one that is built from shapes only, and write its scores for the test images."""
    shapes = eqx.filter_eval_shape(Network, jr.key(0))
    model = eqx.serialise.load(model_file, like=shapes)
    _, _, images, _ = load_data(seed)
    np.save(scores_file, scores_of(model, images))


def draw(picture_file, losses, steps_per_epoch, images, labels, predictions):
    """Draw the loss of each step, and test digits with what the network takes them for; mistakes come first."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    right, wrong, ink = "#1a7f4b", "#c62828", "#222222"
    rows, columns = 6, 10
    plt.rcParams.update({"font.size": 10, "text.color": ink, "axes.labelcolor": ink})
    figure = plt.figure(figsize=(13, 6.2), layout="constrained", facecolor="white")
    left, middle = figure.subfigures(1, 2, width_ratios=[1, 1.45], wspace=0.03)

    axes = left.subplots()
    epochs = np.arange(1, len(losses) + 1) / steps_per_epoch
    axes.plot(epochs, losses, color="#9db8d9", linewidth=0.8, label="each step")
    means = losses.reshape(-1, steps_per_epoch).mean(1)
    middles = np.arange(len(means)) + 0.5
    axes.plot(middles, means, color="#1f4e8c", linewidth=2, marker="o", markersize=3, label="mean of an epoch")
    axes.set(yscale="log", xlabel="epoch", ylabel="cross-entropy", title="Training loss")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(color="#e4e4e4", which="both", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)

    correct = predictions == labels
    accuracy = f"{100 * correct.mean():.1f} % right ({correct.sum()} of {len(labels)})"
    middle.suptitle(f"Digits not seen in training: {accuracy}; green is right, red is wrong", fontsize=12)
    shown = np.argsort(correct, kind="stable")[: rows * columns]
    for axes in (grid := middle.subplots(rows, columns).ravel()):
        axes.set_axis_off()
    for axes, i in zip(grid, shown, strict=False):
        colour = right if correct[i] else wrong
        text = f"{predictions[i]}" if correct[i] else f"{predictions[i]}, is {labels[i]}"
        axes.imshow(images[i, 0], cmap="gray_r", interpolation="nearest", vmin=0, vmax=1)
        axes.set_title(text, color=colour, fontsize=10, fontweight="bold", pad=3)
        axes.add_patch(plt.Rectangle((-0.5, -0.5), 8, 8, fill=False, edgecolor=colour, linewidth=2, clip_on=False))
    figure.savefig(picture_file, dpi=110)


def parse_arguments():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--epochs", type=_at_least(1), default=40, help="how often to go through the training images (40)"
    )
    parser.add_argument("--batch-size", type=_at_least(1), default=64, help="how many images to take at a time (64)")
    parser.add_argument("--rate", type=_positive, default=3e-3, help="the learning rate to start from (0.003)")
    parser.add_argument("--seed", type=_at_least(0), default=0, help="decides the split, the weights and the order (0)")
    parser.add_argument("--require", type=float, default=97.0, help="fail below this held-out accuracy in %% (97)")
    parser.add_argument("--out", type=Path, default=Path("digits-out"), help="the folder to write to (digits-out)")
    parser.add_argument(
        "--load", type=Path, help="do not train: load this model and write its scores to OUT/scores.npy"
    )
    arguments = parser.parse_args()
    if arguments.batch_size > 1437:
        parser.error(
            f"argument --batch-size: must be at most 1437, the number of training images; got {arguments.batch_size}"
        )
    if arguments.seed >= 2**32:
        parser.error(f"argument --seed: must be less than 2**32; got {arguments.seed}")
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=arguments.out):
            pass
    except OSError as error:
        parser.error(f"argument --out: cannot write to {str(arguments.out)!r}: {error.strerror}")
    if arguments.load is not None and not os.access(arguments.load, os.R_OK):
        parser.error(f"argument --load: cannot read {str(arguments.load)!r}")
    return arguments


class Parser(argparse.ArgumentParser):
    """Report a bad option in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def _at_least(lowest):
    def integer(text):
        if not text.isascii() or not text.isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"must be an integer of at least {lowest}; got {text!r}")
        return int(text)

    return integer


def _positive(text):
    try:
        if 0 < float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be a number above 0; got {text!r}")


def main():
    arguments = parse_arguments()
    if arguments.load is not None:
        try:
            load_and_predict(arguments.load, arguments.seed, arguments.out / "scores.npy")
        except (eqx.serialise.CheckpointError, OSError) as error:
            sys.exit(f"cannot load {arguments.load}: {error}")
        return
    console = Console(highlight=False)
    started = time.monotonic()
    model_key, train_key = jr.split(jr.key(arguments.seed))
    train_x, train_y, test_x, test_y = load_data(arguments.seed)
    model = Network(model_key)
    print(model)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    print(f"{parameters:,} parameters; {len(train_x)} digits to train on, {len(test_x)} held out")

    model, losses = train(
        model,
        train_x,
        train_y,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        rate=arguments.rate,
        key=train_key,
        console=console,
    )
    scores = np.asarray(scores_of(model, test_x))
    predictions = scores.argmax(1)
    accuracy = 100 * np.mean(predictions == test_y)
    print(f"held-out accuracy: {accuracy:.1f} %")

    model_file = arguments.out / "digits.safetensors"
    eqx.serialise.save(model_file, model)
    print(f"saved {model_file}, {model_file.stat().st_size:,} bytes")
    reloaded = scores_in_new_process(model_file, arguments.seed)
    if reloaded.tobytes() != scores.tobytes():
        sys.exit("the model loaded in a new process gives other scores")
    print("loaded in a new process, into a model built from shapes only: the same scores, bit for bit")

    picture_file = arguments.out / "digits.png"
    draw(picture_file, losses, len(train_x) // arguments.batch_size, test_x, test_y, predictions)
    print(f"drew {picture_file}")
    print(f"took {time.monotonic() - started:.0f} s")
    if accuracy < arguments.require:
        sys.exit(f"the held-out accuracy, {accuracy:.1f} %, is below the required {arguments.require:g} %")


if __name__ == "__main__":
    main()
