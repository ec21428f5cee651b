"""Topic 10: reverse mode through loops of up to 10,000 steps, each a small matrix product: time, memory, compilation."""

import time

import jax
import jax.numpy as jnp
from timing import OPTIONS, compare, note, optional

MAX_STEPS = 10_000
DIM = 64
BASE = "equinox checkpointed"


def step(w, y):
    return jnp.tanh(w @ y) + 0.1 * y


def scanned(wrap=lambda f: f):
    body = lambda w: wrap(lambda y, _: (step(w, y), None))
    return lambda w, y: jax.lax.scan(body(w), y, None, length=MAX_STEPS)[0]


def nested(*lengths):
    """Scans in scans, each but the innermost rematerialised."""

    def run(w, y):
        f = lambda y, _: (step(w, y), None)
        for n, length in enumerate(lengths):
            wrap = jax.checkpoint if n < len(lengths) - 1 else lambda g: g
            f = wrap(lambda y, _, f=f, length=length: (jax.lax.scan(f, y, None, length=length)[0], None))
        return f(y, None)[0]

    return run


def looped(while_loop, steps, **options):
    def run(w, y):
        body = lambda carry: (carry[0] + 1, step(w, carry[1]))
        return while_loop(lambda carry: carry[0] < steps, body, (jnp.int32(0), y), max_steps=MAX_STEPS, **options)[1]

    return run


def contenders(steps):
    """Return functions that take so many steps; those that could take no fewer than all, only if that is asked for."""
    cases = {}
    if steps == MAX_STEPS:
        cases["lax.scan"] = scanned()
        cases["lax.scan, checkpoint(body)"] = scanned(jax.checkpoint)
        cases["lax.scan, sqrt-nested checkpoint"] = nested(100, 100)
        cases["lax.scan, 3-level checkpoint"] = nested(25, 20, 20)
    libraries = {"equinox": optional("equinox.internal")}
    if OPTIONS["eqx"]:
        libraries["eqx"] = optional("eqx_loops")
    for name, library in libraries.items():
        if library is None:
            continue
        loop = lambda **options: looped(library.while_loop, steps, **options)
        cases[f"{name} checkpointed"] = loop(kind="checkpointed")
        for number in (10, 100, 1000):
            cases[f"{name} checkpointed, {number}"] = loop(kind="checkpointed", checkpoints=number)
        cases[f"{name} bounded"] = loop(kind="bounded")
        if name == "eqx":
            for levels in (1, 2, 3):
                cases[f"eqx segmented, levels={levels}"] = loop(kind="segmented", levels=levels)
    return cases


def compiled(name, fun, *args):
    """Return a compiled program and its gradient, and write down what they need."""
    loss = lambda w, y: (fun(w, y) ** 2).sum()
    start = time.process_time()
    forward, backward = (jax.jit(f).lower(*args).compile() for f in (fun, jax.grad(loss)))
    megabytes = (c.memory_analysis().temp_size_in_bytes / 1e6 for c in (forward, backward))
    note(
        "compile and memory",
        contender=name,
        cpu_seconds=round(time.process_time() - start, 2),
        **dict(zip(("forward_MB", "gradient_MB"), (round(x, 4) for x in megabytes), strict=True)),
    )
    return forward, backward


def scans_over_arrays():
    """Return functions of a weight and rows that scan over the rows, and return as many."""
    f = lambda w: lambda y, x: (step(w, y) + x, y * x)
    cases = {"lax.scan": jax.lax.scan}
    for name, library in {"equinox": "equinox.internal", "eqx": "eqx_loops"}.items():
        if name == "eqx" and not OPTIONS["eqx"]:
            continue
        if (found := optional(library)) is None:
            continue
        kinds = ["checkpointed"] + ["segmented"] * (name == "eqx")
        for kind in kinds:
            cases[f"{name} scan {kind}"] = lambda f, y, xs, scan=found.scan, kind=kind: scan(f, y, xs, kind=kind)
    return {name: lambda w, xs, run=run: run(f(w), xs[0], xs)[1] for name, run in cases.items()}


def main():
    w = jax.random.normal(jax.random.key(0), (DIM, DIM)) / DIM**0.5
    y = jnp.ones(DIM)
    for steps in (MAX_STEPS, MAX_STEPS // 10):
        programs = {name: compiled(f"{name}, {steps}", fun, w, y) for name, fun in contenders(steps).items()}
        for i, what in enumerate(("forward", "gradient")):
            runs = {
                name: lambda program=program[i]: jax.block_until_ready(program(w, y))
                for name, program in programs.items()
            }
            title = f"{steps} of {MAX_STEPS} steps: {what}"
            compare(title, runs, base=BASE, rounds=11, target=0.02, unit="ms")
    for length in (1000, 10_000):
        xs = jnp.ones((length, DIM))
        grads = {name: compiled(f"{name}, {length} rows", fun, w, xs)[1] for name, fun in scans_over_arrays().items()}
        runs = {name: lambda grad=grad: jax.block_until_ready(grad(w, xs)) for name, grad in grads.items()}
        compare(f"scan over {length} rows: gradient", runs, base="lax.scan", rounds=5, target=0.02, unit="ms")
