"""Turn what was measured into the tables of the READMEs and the chart of the site.

python benchmarks/report.py  # after every topic was run with --eqx, which `nox -s bench -- --eqx` does; needs matplotlib

Each ratio is the time of ours divided by that of Equinox in the same run: process CPU time where the topic measures it. What
stands between the markers `<!-- begin: NAME -->` and `<!-- end: NAME -->` of a page is replaced.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent
CHART = ROOT / "docs/pictures/benchmarks.svg"


class Row(NamedTuple):
    """What to call a measurement, the title of its table, the contender, and the ratio that is aimed at."""

    name: str
    title: str
    ours: str = "eqx"
    aim: float | None = None
    theirs: str | None = None  # By default what ours is called, with Equinox in its place.
    headline: bool = False


JIT = "eqx.filter_jit"
LOOP = "10000 of 10000 steps: gradient"
RAM = "1 GB in {} leaves, /dev/shm: CPU time"

ROWS = [
    Row("flatten 1,000 modules", "tree.flatten, 1000 modules", aim=0.25, headline=True),
    Row("unflatten 1,000 modules", "tree.unflatten, 1000 modules", aim=0.40, headline=True),
    Row("`jax.tree.map` over 1,000 modules", "tree.map, 1000 modules", aim=0.40),
    Row("create a class", "class creation (4 fields)", "eqx dataclass-init", 0.30),
    Row("construct, generated `__init__`", "instance, dataclass init (4 fields)", aim=0.08, headline=True),
    Row("construct, own `__init__`", "instance, custom __init__ (4 fields)", aim=0.08),
    Row("read an attribute", "attribute read", aim=0.13, headline=True),
    Row("call a method", "method call", aim=0.02, headline=True),
    Row("`tree_at`, 1 of 1,000 leaves", "tree_at, 1 of 1000 leaves", aim=0.08, headline=True),
    Row("`tree_at`, 100 of 1,000 leaves", "tree_at, 100 of 1000 leaves", aim=0.10),
    Row("`tree_equal`, 1,000 leaves", "tree_equal, 1000 leaves", "eqx arrays differ in identity", 0.22),
    Row("`tree_pformat`, 1,000 arrays", "pformat, 1000 array leaves", aim=0.10),
    Row("`partition` and `combine`, 1,000 arrays", "partition+combine, 1000 array leaves", aim=0.18),
    Row("`filter_jit`, one scalar", "dispatch scalar->scalar, no model", JIT, 0.28),
    Row("`filter_jit`, model of 10 arrays to scalar", "dispatch model->scalar, 10 array leaves", JIT, 0.28),
    Row("`filter_jit`, 100 arrays", "dispatch model->scalar, 100 array leaves", JIT, 0.28, headline=True),
    Row("`filter_jit`, 1,000 arrays", "dispatch model->scalar, 1000 array leaves", JIT, 0.30),
    Row("`filter_jit`, 10 arrays to a new model", "dispatch model->model, 10 array leaves", JIT, 0.30),
    Row("`filter_jit`, 100 arrays to a new model", "dispatch model->model, 100 array leaves", JIT, 0.32),
    Row("`filter_jit`, 1,000 arrays to a new model", "dispatch model->model, 1000 array leaves", JIT, 0.40),
    Row("training step with Adam, small MLP", "train step, mlp", JIT, 0.38, headline=True),
    Row("training step with Adam, 24 narrow blocks", "train step, transformer", JIT, 0.60),
    Row("un-jitted `filter_vmap`", "un-jitted filter_vmap call", "eqx.filter_vmap", 0.65),
    Row("un-jitted `filter_grad`", "un-jitted filter_grad call, 100 array leaves", "eqx.filter_grad", 0.93),
    Row("jitted step with one `error_if`", "error_if in a jitted step", f"{JIT}, 1 error_if"),
    Row("`import`, beyond JAX", "import time on top of jax (row `jax` is jax itself)", aim=0.60, headline=True),
    Row("trace 24 blocks with gradient", "  of which trace", "eqx python loop", 0.65),
    Row("compile 24 blocks with gradient", "  of which compile", "eqx python loop", 0.08, headline=True),
    Row("attention, 2,048 long, with gradient", "MHA seq2048 d256 h8: forward+backward", aim=0.50, headline=True),
    Row("BatchNorm, with gradient", "BatchNorm b64 c64 16x16: forward+backward", aim=0.60),
    Row("LayerNorm, with gradient", "LayerNorm 512x1024: forward+backward"),
    Row("LSTM, 256 steps", "LSTMCell scan T256 b32 64-128: forward", aim=0.75),
    Row("`while_loop`, gradient, checkpointed", LOOP, "eqx checkpointed", 0.70, headline=True),
    Row("`while_loop`, gradient, segmented", LOOP, "eqx segmented, levels=2", 0.20, "equinox checkpointed"),
    Row("save, 10 big leaves", "save, " + RAM.format("10 big"), aim=1.0, headline=True),
    Row("save, 10,000 leaves", "save, " + RAM.format("10000 small"), aim=1.0),
    Row("load, 10 big leaves", "load, " + RAM.format("10 big"), aim=0.80, headline=True),
    Row("load, 10,000 leaves", "load, " + RAM.format("10000 small"), aim=0.65),
    Row("open 10 big leaves by `mmap`", "load, " + RAM.format("10 big"), "eqx mmap, no digests", 0.01, "equinox"),
    Row("open 10,000 leaves by `mmap`", "load, " + RAM.format("10000 small"), "eqx mmap, no digests", 0.20, "equinox"),
]


def measurements(folder):
    """Return `{title: {contender: row}}` and the machine, from what the topics left in `folder`."""
    tables, machine = {}, ""
    for file in sorted(folder.glob("t*.json")):
        topic = json.loads(file.read_text())
        machine = topic["machine"]
        for row in topic["rows"]:
            tables.setdefault(row["title"], {})[row.get("contender")] = row
    return tables, machine


def ratio(table, ours, theirs):
    """Return the time of one contender divided by that of another, by CPU time where both have it."""
    key = "cpu_ratio" if "cpu_ratio" in table[ours] and "cpu_ratio" in table[theirs] else "ratio"
    return table[ours][key] / table[theirs][key]


def ratios(tables):
    """Return `{row: ratio}`, and what has not been measured."""
    found, missing = {}, []
    for row in ROWS:
        theirs = row.theirs or row.ours.replace("eqx", "equinox", 1)
        table = tables.get(row.title, {})
        if row.ours in table and theirs in table:
            found[row] = ratio(table, row.ours, theirs)
        else:
            missing.append(row.name)
    return found, missing


def headlines(found):
    lines = ["| | time, Equinox = 1 |", "|---|---|"]
    return [*lines, *(f"| {row.name} | {x:.2f} |" for row, x in found.items() if row.headline)]


def reached(found):
    lines = ["| | reached | aimed at |", "|---|---|---|"]
    aims = {row: "-" if row.aim is None else f"{row.aim:.2f}" for row in found}
    return [*lines, *(f"| {row.name} | {x:.2f} | {aims[row]} |" for row, x in found.items())]


def layers(tables):
    """Return the table of the layers: forward / forward and backward, beside what else was measured."""
    names = {"eqx": "eqx", "nnx": "Flax NNX", "haiku": "Haiku", "torch (2 threads)": "PyTorch", "raw jax": "bare JAX"}
    peers = {peer: name for peer, name in names.items() if any(peer in table for table in tables.values())}
    lines = [
        f"| | {' | '.join(peers.values())} | memory of the gradient, Equinox's / ours |",
        f"|---|{'---|' * (len(peers) + 1)}",
    ]
    suffix = ": forward+backward"
    for case in [title.removesuffix(suffix) for title in tables if title.endswith(suffix)]:
        forward, both = tables[f"{case}: forward"], tables[case + suffix]
        cells = [
            f"{ratio(forward, peer, 'equinox'):.2f} / {ratio(both, peer, 'equinox'):.2f}" if peer in both else ""
            for peer in peers
        ]
        memory = tables[f"{case}: XLA temp bytes"]
        megabytes = " / ".join(f"{memory[name]['grad_MB']:.1f} MB" for name in ("equinox", "eqx"))
        lines.append(f"| {case} | {' | '.join(cells)} | {megabytes} |")
    return lines


def put(page, name, lines):
    """Replace what stands between two markers of a page."""
    begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page} has no place for the table: {begin.strip()} ... {end}")
    page.write_text(f"{before}{begin}\n" + "\n".join(lines) + f"\n\n{end}{after}")


def draw(found):
    """Draw a bar for each row, shorter is faster; the line is Equinox, a tick is what is aimed at."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "eqx"
    import matplotlib.pyplot as plt

    rows, values = list(found)[::-1], list(found.values())[::-1]
    figure, axes = plt.subplots(figsize=(9, 0.25 * len(rows) + 1), layout="constrained", facecolor="white")
    names = [row.name.replace("`", "") for row in rows]
    axes.barh(names, values, color=["#1a7f4b" if x <= 1.05 else "#b36b00" for x in values])
    axes.axvline(1, color="#222222", linewidth=1)
    for place, (row, x) in enumerate(zip(rows, values, strict=True)):
        # Where the tick would cross it, the number stands behind the tick.
        end = row.aim if row.aim is not None and x < row.aim < x + 0.06 else x
        axes.annotate(f"{x:.2f}", (end, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
        if row.aim is not None:
            axes.plot([row.aim, row.aim], [place - 0.4, place + 0.4], color="#222222", linewidth=1.5)
    axes.set(
        xlabel="time, Equinox = 1 (a tick: aimed at)", xlim=(0, max(1.1, *values) * 1.08), ylim=(-0.6, len(rows) - 0.4)
    )
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(CHART, metadata={"Date": None})


def main(folder=HERE / "results"):
    tables, machine = measurements(Path(folder))
    found, missing = ratios(tables)
    if missing:
        return print(f"The tables and the chart stay as they are; not measured: {', '.join(missing)}")
    source = [f"{machine}.", "", "```sh", "nox -s bench -- --eqx", "```"]
    put(ROOT / "README.md", "headlines", [*headlines(found), "", *source])
    put(HERE / "README.md", "reached", [*reached(found), "", f"{machine}."])
    put(HERE / "README.md", "layers", layers(tables))
    draw(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
