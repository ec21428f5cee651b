"""Describe an object in the few words that fit into an error."""

from typing import Any


def short(x: Any) -> str:
    """Describe `x` by its type and text, or by its text if that tells the type: never a whole array, never two lines."""
    from ._tree_pformat import tree_pformat  # The printer is loaded when something is to be shown.

    text = tree_pformat(x, width=1_000_000).split("\n")[0]
    text = text if len(text) <= 80 else text[:77] + "..."
    tells_its_type = text.startswith(type(x).__name__) or hasattr(x, "dtype") or x is None
    return f"`{text}`" if tells_its_type else f"`{type(x).__name__}` `{text}`"
