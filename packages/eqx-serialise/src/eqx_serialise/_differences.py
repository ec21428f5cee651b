"""Say how what a file holds differs from what is asked for."""

from collections.abc import Mapping

from ._spec import ArraySpec, ScalarSpec

_SHOWN = 20  # Lines under one heading: a model has thousands of leaves, a screen has fifty lines.

_Spec = ArraySpec | ScalarSpec


def differences(found: Mapping[str, _Spec], wanted: Mapping[str, _Spec]) -> list[str]:
    """Return the lines of a report by the names of the leaves; none if nothing differs.

    Args:
      found: What the file holds.
      wanted: What `like` holds.
    """
    both = {name: (found[name], spec) for name, spec in wanted.items() if name in found}
    groups: dict[str, list[str]] = {
        "missing, in `like` alone": [f"{name}: {spec}" for name, spec in wanted.items() if name not in found],
        "unexpected, in the file alone": [f"{name}: {spec}" for name, spec in found.items() if name not in wanted],
        "of another kind": [],
        "of another shape": [],
        "of another dtype": [],
    }
    for name, (ours, theirs) in both.items():
        if ours != theirs:
            heading = f"of another {_first_difference(ours, theirs)}"
            groups[heading].append(f"{name}: {ours} in the file, {theirs} in `like`")
    return [line for heading, lines in groups.items() if lines for line in _shown(heading, lines)]


def _first_difference(ours: _Spec, theirs: _Spec) -> str:
    if not (isinstance(ours, ArraySpec) and isinstance(theirs, ArraySpec)):
        return "kind"
    return "dtype" if ours.shape == theirs.shape else "shape"


def _shown(heading: str, lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    rest = [f"    ... and {more} more"] if more > 0 else []
    return [f"  {heading} ({len(lines)}):", *(f"    {line}" for line in lines[:_SHOWN]), *rest]
