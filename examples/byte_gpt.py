"""Train a small transformer to predict the next byte of Python's own standard library.

The sources of the running Python are the data, so nothing is downloaded; every tenth file is held out. The loss on those
is shown, in bits a byte, beside what the held-out bytes themselves allow a predictor that knows the frequency of each byte
(their unigram entropy), or of each byte after each other one (their bigram entropy). At the end the model writes a little
Python. The blocks are one stacked module and a scan over it, so the program compiles in the time of one block.
"""

import argparse
import sysconfig
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

CONTEXT = 128
WIDTH = 96
HEADS = 4
BLOCKS = 3


class Block(eqx.Module):
    """Attend to what came before, then think about it: one residual block on `f32[time, width]`."""

    norm_attention: eqx.nn.RMSNorm
    attention: eqx.nn.MultiheadAttention
    rotary: eqx.nn.RotaryPositionalEmbedding
    norm_mlp: eqx.nn.RMSNorm
    mlp: eqx.nn.MLP

    def __init__(self, key):
        first, second = jr.split(key)
        self.norm_attention = eqx.nn.RMSNorm(WIDTH)
        self.attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=first)
        self.rotary = eqx.nn.RotaryPositionalEmbedding(WIDTH // HEADS)
        self.norm_mlp = eqx.nn.RMSNorm(WIDTH)
        self.mlp = eqx.nn.MLP(WIDTH, WIDTH, 4 * WIDTH, depth=1, activation=jax.nn.gelu, key=second)

    def __call__(self, x):
        h = jax.vmap(self.norm_attention)(x)
        past = jnp.tril(jnp.ones((len(x), len(x)), bool))
        x = x + self.attention(h, h, h, past, process_heads=self.rotate)
        return x + jax.vmap(self.mlp)(jax.vmap(self.norm_mlp)(x))

    def rotate(self, queries, keys, values):
        rotate = jax.vmap(self.rotary, in_axes=1, out_axes=1)
        return rotate(queries), rotate(keys), values


class Transformer(eqx.Module):
    """Give the logits of the byte after each of `u8[time]`: `f32[time, 256]`."""

    embedding: eqx.nn.Embedding
    blocks: Block  # its arrays have one more axis, of the blocks
    norm: eqx.nn.RMSNorm

    def __init__(self, key):
        first, second = jr.split(key)
        table = 0.02 * jr.normal(first, (256, WIDTH))
        self.embedding = eqx.nn.Embedding(weight=table)
        self.blocks = eqx.filter_vmap(Block)(jr.split(second, BLOCKS))
        self.norm = eqx.nn.RMSNorm(WIDTH)

    def __call__(self, tokens):
        x = jax.vmap(self.embedding)(tokens)
        x, _ = eqx.filter_scan(lambda x, block: (block(x), None), x, self.blocks)
        return jax.vmap(self.norm)(x) @ self.embedding.weight.T


def load_data(limit):
    """Return the bytes to train on and those held out, each at most `limit`."""
    folder = Path(sysconfig.get_path("stdlib"))
    files = sorted(
        file for file in folder.rglob("*.py") if "site-packages" not in file.parts and "test" not in file.parts
    )
    # Files next to each other in the alphabet are much alike, so all are mixed, always in the same way.
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    held_out = b"\n".join(file.read_bytes() for file in files[::10])
    training = b"\n".join(file.read_bytes() for i, file in enumerate(files) if i % 10)
    return np.frombuffer(training, np.uint8)[:limit], np.frombuffer(held_out, np.uint8)[: limit // 10]


def entropies(data):
    """Return the bits a byte of `u8[n]`: by the frequency of each, and of each after the one before."""
    pairs = np.zeros((256, 256))
    np.add.at(pairs, (data[:-1], data[1:]), 1)
    single, pair = (counts[counts > 0] / counts.sum() for counts in (pairs.sum(1), pairs))
    unigram, both = (-(p * np.log2(p)).sum() for p in (single, pair))
    return unigram, both - unigram


def bits_of(model, windows):
    """Return the mean cross-entropy, in bits, of the bytes of `u8[batch, time + 1]` after the first."""
    windows = windows.astype(jnp.int32)
    logits = jax.vmap(model)(windows[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:]).mean() / jnp.log(2)


def held_out_bits(model, data, count=256):
    """Return the bits a byte of `count` windows that are spread evenly over `data`."""
    starts = np.linspace(0, len(data) - CONTEXT - 1, count).astype(int)
    windows = data[starts[:, None] + np.arange(CONTEXT + 1)]
    return np.mean([eqx.filter_jit(bits_of)(model, part) for part in np.split(windows, 8)])


def train(model, data, held_out, *, steps, batch_size, rate, seed, console):
    """Return the trained model, the bits of each step, and `(step, held-out bits)` now and then."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 10 + 1, steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.95))

    @eqx.filter_jit(donate="all")
    def step(model, optimiser_state, windows):
        bits, gradients = eqx.filter_value_and_grad(bits_of)(model, windows)
        parameters = eqx.filter(model, eqx.is_inexact_array)
        updates, optimiser_state = optimiser.update(gradients, optimiser_state, parameters)
        return eqx.apply_updates(model, updates), optimiser_state, bits

    optimiser_state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
    random = np.random.default_rng(seed)
    every = max(1, steps // 10)
    training, measured = [], []
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, held out {task.fields[bits]} bits"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=steps, bits="-")
        for count in range(1, steps + 1):
            starts = random.integers(0, len(data) - CONTEXT, batch_size)
            windows = data[starts[:, None] + np.arange(CONTEXT + 1)]
            model, optimiser_state, bits = step(model, optimiser_state, windows)
            training.append(bits)
            progress.advance(bar)
            if count % every == 0 or count == steps:
                measured.append((count, held_out_bits(model, held_out)))
                progress.update(bar, bits=f"{measured[-1][1]:.3f}")
    return model, np.array(training), np.array(measured)


def write(model, prompt, count, key):
    """Return `prompt` and `count` bytes that the model goes on with."""

    @eqx.filter_jit
    def next_byte(model, window, length, key):
        return jr.categorical(key, model(window)[length - 1] / 0.7)

    text = list(prompt)
    for step_key in jr.split(key, count):
        window = text[-CONTEXT:]
        padded = np.zeros(CONTEXT, np.int32)
        padded[: len(window)] = window
        text.append(int(next_byte(model, padded, np.int32(len(window)), step_key)))
    return bytes(text).decode("utf-8", "replace")


def draw(picture_file, training, measured, unigram, bigram):
    """Draw the loss of each step and on held-out bytes, and the two entropies."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained", facecolor="white")
    axes.plot(np.arange(1, len(training) + 1), training, color="#9db8d9", linewidth=0.8, label="each step")
    axes.plot(*measured.T, color="#1f4e8c", linewidth=2, marker="o", markersize=4, label="held out")
    for level, name, colour in ((unigram, "unigram", "#c62828"), (bigram, "bigram", "#b36b00")):
        axes.axhline(level, color=colour, linewidth=1.2, linestyle="--", label=f"{name} entropy, {level:.2f}")
    axes.set(xlabel="step", ylabel="bits a byte", title="The next byte of Python's standard library", ylim=(0, 8.2))
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(picture_file, dpi=110)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=_at_least(1), default=500, help="how many steps to train (500)")
    parser.add_argument("--batch-size", type=_at_least(1), default=16, help=f"windows of {CONTEXT} bytes a step (16)")
    parser.add_argument("--rate", type=float, default=4e-3, help="the highest learning rate (0.004)")
    parser.add_argument("--bytes", type=_at_least(100_000), default=5_000_000, help="how many bytes to train on (5e6)")
    parser.add_argument("--seed", type=_at_least(0), default=0, help="decides the weights and the windows (0)")
    parser.add_argument("--write", type=_at_least(0), default=300, help="how many bytes to write at the end (300)")
    parser.add_argument("--out", type=Path, default=Path("byte-gpt-out"), help="the folder to write to (byte-gpt-out)")
    return parser.parse_args()


def _at_least(lowest):
    def integer(text):
        if not text.isascii() or not text.isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"must be an integer of at least {lowest}; got {text!r}")
        return int(text)

    return integer


def main():
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    started = time.monotonic()
    data, held_out = load_data(arguments.bytes)
    unigram, bigram = entropies(held_out)
    model = Transformer(jr.key(arguments.seed))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    print(f"{parameters:,} parameters; {len(data):,} bytes to train on, {len(held_out):,} held out")

    model, training, measured = train(
        model,
        data,
        held_out,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        rate=arguments.rate,
        seed=arguments.seed,
        console=console,
    )
    print(f"held out: {measured[-1, 1]:.3f} bits a byte; their unigram entropy {unigram:.3f}, bigram {bigram:.3f}")
    eqx.serialise.save(arguments.out / "byte_gpt.safetensors", model)
    draw(arguments.out / "byte_gpt.png", training, measured, unigram, bigram)
    print(f"saved byte_gpt.safetensors and drew byte_gpt.png in {arguments.out}")
    if arguments.write:
        print(write(model, b"def ", arguments.write, jr.key(arguments.seed)))
    print(f"took {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
