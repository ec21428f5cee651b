"""How unlike two names are."""

from collections.abc import Iterable


def edit_distance(a: str, b: str) -> int:
    """Return how many letters must be put in, taken out or replaced to make `b` of `a`.

    Source: Wagner and Fischer (1974), The string-to-string correction problem.
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the one of `names` most like `name`; the empty string if there is none."""
    return min(names, key=lambda other: edit_distance(name[:200], other[:200]), default="")
