"""Say how what a file holds differs from what is asked for, and what to pass about it."""

from collections.abc import Mapping
from typing import Any

from ._likely_renames import likely_renames
from ._shown import shown
from ._spec import ArraySpec, ScalarSpec
from ._static_values import description_text

_SHOWN = 20  # Lines under one heading: a model has thousands of leaves, a screen has fifty lines.

_Spec = ArraySpec | ScalarSpec


def differences(
    found: Mapping[str, _Spec],
    wanted: Mapping[str, _Spec],
    static: Mapping[str, tuple[Any, Any]],
    *,
    strict: bool,
) -> list[str]:
    """Return the lines of a report by the names of the leaves, with what to pass at the end; none if nothing differs.

    Args:
      found: What the file holds.
      wanted: What `like` holds.
      static: The descriptions of static values that differ: in the file, in `like`.
      strict: Whether `strict=False` is still to be passed.
    """
    both = {name: (found[name], spec) for name, spec in wanted.items() if name in found}
    missing = {name: spec for name, spec in wanted.items() if name not in found}
    unexpected = {name: spec for name, spec in found.items() if name not in wanted}
    renames = likely_renames(missing, unexpected, found)
    groups: dict[str, list[str]] = {
        "missing, in `like` alone": _listed(missing),
        "unexpected, in the file alone": _listed(unexpected),
        "likely renamed": [f"{shown(old)} -> {shown(new)}" for old, new in renames.items()],
        "of another kind": [],
        "of another shape": [],
        "of another dtype": [],
        "of another static value": [
            f"{shown(name)}: {description_text(ours)} in the file, {description_text(theirs)} in `like`"
            for name, (ours, theirs) in static.items()
        ],
    }
    for name, (ours, theirs) in both.items():
        if ours != theirs:
            heading = f"of another {_first_difference(ours, theirs)}"
            groups[heading].append(f"{shown(name)}: {ours} in the file, {theirs} in `like`")
    lines = [line for heading, lines in groups.items() if lines for line in _cut(heading, lines)]
    return [*lines, *_advice(groups, renames, strict)] if lines else []


def _listed(leaves: Mapping[str, _Spec]) -> list[str]:
    return [f"{shown(name)}: {spec}" for name, spec in leaves.items()]


def _first_difference(ours: _Spec, theirs: _Spec) -> str:
    if not (isinstance(ours, ArraySpec) and isinstance(theirs, ArraySpec)):
        return "kind"
    return "dtype" if ours.shape == theirs.shape else "shape"


def _cut(heading: str, lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    rest = [f"    ... and {more} more"] if more > 0 else []
    return [f"  {heading} ({len(lines)}):", *(f"    {line}" for line in lines[:_SHOWN]), *rest]


def _advice(groups: Mapping[str, list[str]], renames: Mapping[str, str], strict: bool) -> list[str]:
    """Return what to pass to load all the same, for the groups that have lines."""
    advice = []
    if renames:
        mapping = ", ".join(f"{old!r}: {new!r}" for old, new in list(renames.items())[:_SHOWN])
        more = ", ..." if len(renames) > _SHOWN else ""
        advice.append(f"`rename={{{mapping}{more}}}`, if these are the same leaves")
    if strict and (groups["missing, in `like` alone"] or groups["unexpected, in the file alone"]):
        advice.append("`strict=False`, to keep what only `like` has and leave what only the file has")
    elif groups["of another static value"]:
        advice.append("`strict=False`, to keep the static values of `like`")
    if groups["of another dtype"]:
        advice.append("`cast=True`, to convert to the dtypes of `like`")
    if groups["of another kind"] or groups["of another shape"]:
        advice.append("`only=lambda path: path not in {...}`, to leave out leaves of another kind or shape")
    build = "Build `like` just as the saved model was built."
    if not advice:
        return [build]
    return [f"{build} Or, to load it on purpose into this one, pass:", *(f"  {line}" for line in advice)]
