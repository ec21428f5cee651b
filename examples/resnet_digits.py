"""Train a residual network with batch normalisation on real handwritten digits.

The 1,797 images come with scikit-learn, so nothing is downloaded. Batch normalisation remembers running statistics: they
are in a `State` that goes into each training step and comes out of it, and is saved together with the model. A picture
shows the loss, the accuracy with and without the running statistics, and the mistakes.
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
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import eqx

BATCH = "batch"


class Block(eqx.nn.StatefulLayer):
    """Add to the input what two convolutions make of it.

    It takes one image, `f32[in_channels, height, width]`, and returns `f32[out_channels, height / stride, width /
    stride]`.
    """

    first: eqx.nn.Conv2d
    first_norm: eqx.nn.BatchNorm
    second: eqx.nn.Conv2d
    second_norm: eqx.nn.BatchNorm
    shortcut: eqx.nn.Conv2d | eqx.nn.Identity

    def __init__(self, in_channels, out_channels, stride, *, key):
        keys = jr.split(key, 3)
        options = {"use_bias": False, "weight_init": jax.nn.initializers.he_normal()}
        self.first = eqx.nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, key=keys[0], **options)
        self.first_norm = eqx.nn.BatchNorm(out_channels, BATCH, momentum=0.9)
        self.second = eqx.nn.Conv2d(out_channels, out_channels, 3, padding=1, key=keys[1], **options)
        self.second_norm = eqx.nn.BatchNorm(out_channels, BATCH, momentum=0.9)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = (
            eqx.nn.Identity() if same else eqx.nn.Conv2d(in_channels, out_channels, 1, stride, key=keys[2], **options)
        )

    def __call__(self, x, state, *, key=None):
        y, state = self.first_norm(self.first(x), state)
        y, state = self.second_norm(self.second(jax.nn.relu(y)), state)
        return jax.nn.relu(y + self.shortcut(x)), state


class ResNet(eqx.Module):
    """Look at an image through residual blocks.

    It takes one image, `f32[1, 8, 8]`, and the state, and returns one score for each digit, `f32[10]`, and the new state.
    """

    features: eqx.nn.Sequential
    classifier: eqx.nn.Linear

    def __init__(self, width, key):
        keys = jr.split(key, 5)
        self.features = eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(1, width, 3, padding=1, key=keys[0]),
                Block(width, width, 1, key=keys[1]),
                Block(width, 2 * width, 2, key=keys[2]),
                Block(2 * width, 2 * width, 1, key=keys[3]),
                eqx.nn.AdaptiveAvgPool2d(1),
                eqx.nn.Lambda(jnp.ravel),
            ]
        )
        self.classifier = eqx.nn.Linear(2 * width, 10, key=keys[4])

    def __call__(self, image, state):
        x, state = self.features(image, state)
        return self.classifier(x), state


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


def scores_of(model, state, images):
    """Return the scores of a batch, and the state: one for all, as the statistics are those of the whole batch."""
    return jax.vmap(model, axis_name=BATCH, in_axes=(0, None), out_axes=(0, None))(images, state)


def loss_of(model, state, images, labels, key):
    """Return the mean cross-entropy of a batch, and the new state."""
    images = jax.vmap(shifted)(images, jr.split(key, len(images)))
    scores, state = scores_of(model, state, images)
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean(), state


@eqx.filter_jit
def predict(model, state, images, *, inference):
    """Return what digit each image is taken for."""
    scores, _ = scores_of(eqx.nn.inference_mode(model, inference), state, images)
    return scores.argmax(1)


def train(model, state, data, *, epochs, batch_size, rate, key, console):
    """Return the trained model and its state, the loss of each step, and two accuracies after each epoch in per cent.

    The accuracies are those on the held-out images: with the running statistics, and with those of the held-out images
    themselves. The running statistics are right when the two come together.
    """
    images, labels, test_x, test_y = data
    steps_per_epoch = len(images) // batch_size
    steps = epochs * steps_per_epoch
    optimiser = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-3)

    @eqx.filter_jit(donate="all")
    def step(model, state, optimiser_state, images, labels, key):
        (loss, state), gradients = eqx.filter_value_and_grad(loss_of, has_aux=True)(model, state, images, labels, key)
        parameters = eqx.filter(model, eqx.is_inexact_array)
        updates, optimiser_state = optimiser.update(gradients, optimiser_state, parameters)
        return eqx.apply_updates(model, updates), state, optimiser_state, loss

    optimiser_state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
    shuffle = np.random.default_rng(jr.bits(key, (4,)).tolist())
    losses, accuracies = [], []
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
                model, state, optimiser_state, loss = step(
                    model, state, optimiser_state, images[batch], labels[batch], step_key
                )
                losses.append(loss)
                progress.advance(bar)
            found = [predict(model, state, test_x, inference=inference) for inference in (True, False)]
            accuracies.append([100 * np.mean(predictions == test_y) for predictions in found])
            progress.update(bar, loss=f"{np.mean(losses[-steps_per_epoch:]):.4f}")
    return model, state, np.array(losses), np.array(accuracies)


def draw(picture_file, losses, accuracies, images, labels, predictions):
    """Draw the loss of each step, the accuracies after each epoch, and test digits; mistakes come first."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    right, wrong, blue = "#1a7f4b", "#c62828", "#1f4e8c"
    figure = plt.figure(figsize=(13, 6.2), layout="constrained", facecolor="white")
    left, middle = figure.subfigures(1, 2, width_ratios=[1, 1.3], wspace=0.03)
    above, below = left.subplots(2, sharex=True)
    steps_per_epoch = len(losses) // len(accuracies)
    above.plot(np.arange(1, len(losses) + 1) / steps_per_epoch, losses, color=blue, linewidth=0.8)
    above.set(yscale="log", ylabel="cross-entropy", title="Training loss of each step")
    epochs = np.arange(1, len(accuracies) + 1)
    below.plot(epochs, accuracies[:, 0], color=right, label="running statistics")
    below.plot(epochs, accuracies[:, 1], color=blue, linestyle="--", label="statistics of the images themselves")
    below.set(xlabel="epoch", ylabel="%", title="Held-out accuracy")
    below.legend(frameon=False, loc="lower right")
    for axes in (above, below):
        axes.grid(color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)

    correct = predictions == labels
    middle.suptitle(f"Held-out digits: {100 * correct.mean():.1f} % right ({correct.sum()} of {len(labels)})")
    for i, axes in zip(np.argsort(correct, kind="stable"), middle.subplots(5, 9).ravel(), strict=False):
        text = f"{predictions[i]}" if correct[i] else f"{predictions[i]}, is {labels[i]}"
        axes.imshow(images[i, 0], cmap="gray_r", interpolation="nearest", vmin=0, vmax=1)
        axes.set_title(text, color=right if correct[i] else wrong, fontsize=10, fontweight="bold", pad=3)
        axes.set_axis_off()
    figure.savefig(picture_file, dpi=110)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--epochs", type=_at_least(1), default=25, help="how often to go through the training images (25)")
    add("--batch-size", type=_at_least(2), default=64, help="how many images to take at a time (64)")
    add("--width", type=_at_least(1), default=16, help="the number of channels of the first block (16)")
    add("--rate", type=float, default=5e-3, help="the learning rate to start from (0.005)")
    add("--seed", type=_at_least(0), default=0, help="decides the split, the weights and the order (0)")
    add("--require", type=float, default=98.0, help="fail below this held-out accuracy in %% (98)")
    add("--out", type=Path, default=Path("resnet-out"), help="the folder to write to (resnet-out)")
    arguments = parser.parse_args()
    if arguments.batch_size > 1437:
        parser.error(f"argument --batch-size: must be at most 1437, the number of images; got {arguments.batch_size}")
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
    model_key, train_key = jr.split(jr.key(arguments.seed))
    data = load_data(arguments.seed)
    model, state = eqx.nn.make_with_state(ResNet)(arguments.width, model_key)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    print(f"{parameters:,} parameters; {len(data[0])} digits to train on, {len(data[2])} held out")

    model, state, losses, accuracies = train(
        model,
        state,
        data,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        rate=arguments.rate,
        key=train_key,
        console=Console(highlight=False),
    )
    _, _, test_x, test_y = data
    predictions = np.asarray(predict(model, state, test_x, inference=True))
    accuracy = 100 * np.mean(predictions == test_y)
    print(f"held-out accuracy: {accuracy:.1f} %")

    file = arguments.out / "resnet.safetensors"
    eqx.serialise.save(file, (model, state))
    like = eqx.filter_eval_shape(eqx.nn.make_with_state(ResNet), arguments.width, model_key)
    loaded = predict(*eqx.serialise.load(file, like=like), test_x, inference=True)
    if not np.array_equal(loaded, predictions):
        sys.exit("the model that was saved and loaded gives other predictions")
    print(f"saved {file}, model and state; loaded, they give the same predictions")

    picture_file = arguments.out / "resnet.png"
    draw(picture_file, losses, accuracies, test_x, test_y, predictions)
    print(f"drew {picture_file}")
    print(f"took {time.monotonic() - started:.0f} s")
    if accuracy < arguments.require:
        sys.exit(f"the held-out accuracy, {accuracy:.1f} %, is below the required {arguments.require:g} %")


if __name__ == "__main__":
    main()
