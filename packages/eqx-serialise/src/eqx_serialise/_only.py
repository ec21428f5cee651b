"""Pick the leaves to load: `load(only=...)`."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from ._edit_distance import nearest
from ._paths import relative, with_parents

Only = str | Iterable[str] | Callable[[str], bool]


def picker(only: Only | None, names: Iterable[str]) -> Callable[[str], bool]:
    """Return a function from the name of a leaf to whether it is picked.

    Args:
      only: A path, which picks the leaf there and all below; with `*` for any letters and `?` for
        one letter, if wanted; several of them; or such a function.
      names: The names in `like`. Each path must pick one of them.

    Raises:
      TypeError: `only` is something else.
      ValueError: A path picks nothing.
    """
    if only is None:
        return lambda name: True
    if callable(only):
        return only
    patterns = [only] if isinstance(only, str) else list(only) if isinstance(only, Iterable) else [only]
    matchers = [_matcher(pattern, list(names)) for pattern in patterns]
    return lambda name: any(matches(name) for matches in matchers)


def _matcher(pattern: Any, names: list[str]) -> Callable[[str], bool]:
    if not isinstance(pattern, str):
        raise TypeError(
            "`load(only=...)` must be a path such as `encoder.layers[*].weight`, a list of them, or a function; got "
            f"`{type(pattern).__name__}`. Write the path as a string."
        )
    if "*" in pattern or "?" in pattern:
        # Not `fnmatch`: brackets belong to the paths.
        text = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        compiled = re.compile(rf"{text}([.\[].*)?", re.DOTALL)
        matches = lambda name: compiled.fullmatch(name) is not None  # noqa: E731
    else:
        matches = lambda name: relative(name, pattern) is not None  # noqa: E731
    if not any(map(matches, names)):
        raise ValueError(
            f"`load(only=...)` must pick leaves of `like`; got `{pattern}`, which picks none. The nearest is "
            f"`{nearest(pattern, with_parents(names))}`."
        )
    return matches
