"""Turn what `nox -s bench` has measured into the table of the README and the site, and into a chart.

python benchmarks/report.py            # after `nox -s bench -- --eqx`; needs matplotlib

A contender that is called `eqx...` is compared with the one called `equinox...` in the same table, by the process CPU time
where the topic measures it. Everything between the two markers of a page is replaced.
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGES = [HERE.parent / "README.md", HERE.parent / "docs/benchmarks.md"]
CHART = HERE.parent / "docs/pictures/benchmarks.svg"
BEGIN, END = "<!-- begin: benchmarks/report.py -->\n", "<!-- end -->"


def measured(results):
    """Return `(topic, [(title, ratio), ...], machine)` for each topic that has been measured."""
    topics = []
    for file in sorted(results.glob("t*.json")):
        topic = json.loads(file.read_text())
        pairs = list(_pairs(topic["rows"]))
        if pairs:
            topics.append((topic["topic"], pairs, topic["machine"]))
    return topics


def _pairs(rows):
    by_name = {(row["title"], row["contender"]): row for row in rows if "contender" in row}
    for (title, name), ours in by_name.items():
        peer = by_name.get((title, re.sub(r"^eqx\b", "equinox", name)))
        if name.startswith("eqx") and peer is not None:
            key = "cpu_ratio" if "cpu_ratio" in ours and "cpu_ratio" in peer else "ratio"
            what = re.sub(r"^eqx[ .]?", "", name)
            yield f"{title}: {what}" if what else title, ours[key] / peer[key]


def table(topics):
    lines = ["| | time, Equinox = 1 |", "|---|---|"]
    lines += [f"| {title} | {ratio:.2f} |" for _, pairs, _ in topics for title, ratio in pairs]
    return "\n".join(lines) + f"\n\n{topics[0][2]}\n"


def put(page, text):
    """Replace what stands between the markers of a page."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} has no place for the table: {BEGIN.strip()} ... {END}")
    page.write_text(before + begin + "\n" + text + "\n" + end + after)


def draw(topics):
    """Draw one bar for each row, shorter is faster; the line is Equinox."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "eqx"
    import matplotlib.pyplot as plt

    rows = [pair for _, pairs, _ in topics for pair in pairs][::-1]
    names, ratios = zip(*rows, strict=True)
    figure, axes = plt.subplots(figsize=(9, 0.24 * len(rows) + 1), layout="constrained", facecolor="white")
    axes.barh(names, ratios, color=["#1a7f4b" if ratio <= 1.05 else "#b36b00" for ratio in ratios])
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set(xlabel="time, Equinox = 1", xlim=(0, max(1.1, *ratios) * 1.08), ylim=(-0.6, len(rows) - 0.4))
    axes.tick_params(axis="y", labelsize=8)
    for place, ratio in enumerate(ratios):
        axes.annotate(
            f"{ratio:.2f}", (ratio, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.spines[["top", "right"]].set_visible(False)
    CHART.parent.mkdir(exist_ok=True)
    figure.savefig(CHART, metadata={"Date": None})


def main():
    topics = measured(HERE / "results")
    if not topics:
        raise SystemExit("nothing measured yet: nox -s bench -- --eqx")
    for page in PAGES:
        put(page, table(topics))
    draw(topics)


if __name__ == "__main__":
    main()
