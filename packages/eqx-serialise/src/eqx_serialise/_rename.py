"""Call the leaves of a file by the names that the code has for them now."""

from collections.abc import Callable, Mapping
from typing import Any

from ._edit_distance import nearest
from ._paths import joined, relative, with_parents

Rename = Mapping[str, str] | Callable[[str], str]


def renamed(found: dict[str, Any], rename: Rename | None) -> dict[str, Any]:
    """Return `found` under new names.

    Args:
      rename: The new name for an old one: a function; or a mapping from names, of leaves or of all
        that is below a path, of which the longest that fits counts.

    Raises:
      TypeError: `rename` is something else, or returns no string.
      ValueError: The mapping has a name that is not in the file, or two leaves get one name.
    """
    if rename is None:
        return found
    function = _from_mapping(rename, found) if isinstance(rename, Mapping) else rename
    if not callable(function):
        raise TypeError(
            "`load(rename=...)` must be a mapping from names in the file to names in `like`, or a function; got "
            f"`{type(rename).__name__}`. Write `rename={{'old': 'new'}}`."
        )
    result: dict[str, Any] = {}
    for name, item in found.items():
        new: Any = function(name)
        if not isinstance(new, str):
            raise TypeError(
                f"`load(rename=...)` must return a name; got `{type(new).__name__}` for `{name}`. Return the name "
                "as it is where nothing is to change."
            )
        if new in result:
            raise ValueError(
                f"`load(rename=...)` must keep names apart; got `{new}` for `{name}` and for another leaf. "
                "Rename that one too, or leave it out by `only`."
            )
        result[new] = item
    return result


def new_name(name: str, mapping: Mapping[str, str]) -> str:
    """Return what `mapping` makes of a name: by the longest of its keys that is the name or a path above it."""
    for old in sorted(mapping, key=len, reverse=True):
        rest = relative(name, old)
        if rest is not None:
            return joined(mapping[old], rest)
    return name


def _from_mapping(mapping: Mapping[str, str], found: dict[str, Any]) -> Callable[[str], str]:
    for old, new in mapping.items():
        if not isinstance(old, str) or not isinstance(new, str):
            raise TypeError(
                f"`load(rename=...)` must map names to names; got `{type(old).__name__}` to `{type(new).__name__}`. "
                "Write both as strings."
            )
        if all(relative(name, old) is None for name in found):
            raise ValueError(
                f"`load(rename=...)` must map names that the file has; got `{old}`, which it has not. The nearest is "
                f"`{nearest(old, with_parents(found))}`."
            )
    return lambda name: new_name(name, mapping)
