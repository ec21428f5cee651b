"""Reckon with the names of leaves and of the nodes above them: `layers[0]` is above `layers[0].weight`."""

import bisect
import itertools
from collections.abc import Iterable

ROOT = "."
_DEEPEST = 64


def relative(name: str, node: str) -> str | None:
    """Return the name that a leaf has within the node of that name; None if it is elsewhere."""
    if node == ROOT:
        return name
    if name == node:
        return ROOT
    rest = name.removeprefix(node)
    if len(rest) == len(name) or rest[0] not in ".[":
        return None
    return rest.removeprefix(".")


def range_below(names: list[str], node: str) -> tuple[int, int]:
    """Return where in sorted names those stand that start with the name of a node."""
    if node == ROOT:
        return 0, len(names)
    # Not a look at each: a file may have tens of thousands of nodes to migrate, and of leaves.
    last = bisect.bisect_right(names, node, key=lambda name: name[: len(node)])
    return bisect.bisect_left(names, node), last


def joined(node: str, name: str) -> str:
    """Return the whole name of what is called `name` within a node: the inverse of `relative`."""
    if node == ROOT:
        return name
    if name == ROOT:
        return node
    return node + name if name.startswith(("[", ".")) else f"{node}.{name}"


def with_parents(names: Iterable[str]) -> dict[str, None]:
    """Return names and all paths above them, each once, in order.

    Of a name with more than 64 steps, which only a forged file has, the rest is left out.
    """
    paths = (itertools.accumulate(parts(name)[:_DEEPEST]) for name in names)
    return dict.fromkeys(itertools.chain.from_iterable(paths))


def parts(name: str) -> list[str]:
    """Return the steps of a path, which joined together are the path again: `["layers", "[0]", ".weight"]`."""
    steps: list[str] = []
    start, quote = 0, ""
    for i, letter in enumerate(name):
        if quote:
            quote = "" if letter == quote and name[i - 1] != "\\" else quote
        elif letter in "'\"":
            quote = letter
        elif letter in ".[" and i > start:
            steps.append(name[start:i])
            start = i
    return [*steps, name[start:]]
