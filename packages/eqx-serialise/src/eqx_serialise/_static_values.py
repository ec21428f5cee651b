"""Say in JSON what is no leaf of a file but decides what a model computes: sizes, names, functions."""

import enum
from typing import Any

import numpy as np

from ._python_values import SCALARS, from_json, to_json, value_text
from ._shown import shown

_DEEPEST = 8  # Lists in lists in lists: further down, a list may contain itself.


def to_description(value: Any, depth: int = 0) -> Any:
    """Return JSON that two values share only if they look the same; None if JSON cannot say it.

    Functions, classes and members of an enumeration are called by their names, which are compared
    and never looked up.
    """
    if value is None:
        return {"none": True}
    if type(value) in SCALARS:
        return to_json(value) if type(value) is not str or is_text(value) else None
    if isinstance(value, enum.Enum):
        return {"enum": f"{type(value).__name__}.{value.name}"}
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if type(value) in {tuple, list, dict} and depth < _DEEPEST:
        return _container(value, depth)
    return _callable(value)


def is_text(value: str) -> bool:
    """Return whether UTF-8 can write `value`."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _container(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        if not all(type(key) is str and is_text(key) for key in value):
            return None
        content: Any = {key: to_description(item, depth + 1) for key, item in value.items()}
        items = list(content.values())
    else:
        content = items = [to_description(item, depth + 1) for item in value]
    return None if any(item is None for item in items) else {type(value).__name__: content}


def _callable(value: Any) -> Any:
    # Not the module as well: it changes when a library is put in order, and the function does not.
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not callable(value) or not isinstance(name, str) or not is_text(name):
        return None
    if "<" in name or any(part.startswith("_") for part in name.split(".")):
        return None  # A lambda, or a name that promises nothing.
    return {"class" if isinstance(value, type) else "function": name}


def description_text(description: Any) -> str:
    """Return a description in a few words: `'relu'`, `3`, `function relu`."""
    return shown(_text(description))


def _text(description: Any) -> str:
    match description:
        case {"none": _}:
            return "None"
        case {"tuple": list(items)}:
            return f"({', '.join(map(_text, items))}{',' if len(items) == 1 else ''})"
        case {"list": list(items)}:
            return f"[{', '.join(map(_text, items))}]"
        case {"dict": dict(items)}:
            return f"{{{', '.join(f'{key!r}: {_text(item)}' for key, item in items.items())}}}"
        case {"function": str(name)} | {"class": str(name)} | {"dtype": str(name)}:
            return f"{next(iter(description))} {name}"
        case {"enum": str(name)}:
            return name
    try:
        return value_text(from_json(description))
    except ValueError:
        return str(description)
