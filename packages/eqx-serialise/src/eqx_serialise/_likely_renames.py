"""Guess which leaves only have another name now: by shape, dtype, and how alike the names are."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from ._edit_distance import edit_distance
from ._paths import parts
from ._rename import new_name

_MOST = 12  # Leaves of one shape to compare with one another: each pair takes a tenth of a millisecond.


def likely_renames(missing: Mapping[str, Any], unexpected: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Return what to pass as `rename`: names of the file, or paths above them, to those of `like`.

    Args:
      missing: What `like` alone has, by name.
      unexpected: What the file alone has, by name.
      names: All names in the file.
    """
    pairs: dict[str, str] = {}
    old_by_spec, new_by_spec = _by_spec(unexpected), _by_spec(missing)
    for spec, old in old_by_spec.items():
        pairs |= _pairs(old, new_by_spec.get(spec, []))
    # What has happened to a few layers has happened to all.
    short = dict(_without_same_end(old, new) for old, new in pairs.items())
    taken = set(pairs.values())
    for old, spec in unexpected.items():
        new = new_name(old, short)
        if old not in pairs and new not in taken and missing.get(new) == spec:
            pairs[old] = new
            taken.add(new)
    same = all(new_name(name, short) == pairs.get(name, name) for name in names)
    return short if same else pairs


def _by_spec(leaves: Mapping[str, Any]) -> dict[Any, list[str]]:
    groups: dict[Any, list[str]] = defaultdict(list)
    for name, spec in leaves.items():
        groups[spec].append(name)
    return groups


def _pairs(old: list[str], new: list[str]) -> dict[str, str]:
    """Return each old name with the new one it has become, the most alike first."""
    if len(old) == len(new) == 1:
        return {old[0]: new[0]}
    old, new = old[:_MOST], new[:_MOST]
    distances = sorted((edit_distance(a[:200], b[:200]), a, b) for a in old for b in new)
    pairs: dict[str, str] = {}
    taken: set[str] = set()
    for distance, a, b in distances:
        if a not in pairs and b not in taken and distance < max(len(a), len(b)) / 2:
            pairs[a] = b
            taken.add(b)
    return pairs


def _without_same_end(old: str, new: str) -> tuple[str, str]:
    """Return the paths above two leaves from which on they are called the same."""
    before, after = parts(old), parts(new)
    while len(before) > 1 and len(after) > 1 and before[-1] == after[-1]:
        before.pop()
        after.pop()
    return "".join(before), "".join(after)
