"""Find the parts of a model that are meant by a path, a class or a function: `picked_parts`."""

import fnmatch
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from .._axes import short
from ._marked import Path, is_method, nodes

Where = str | type | Callable[[Any], Any]
Part = tuple[Path, str]
"""A path to a callable node, and the name of its method."""


def picked_parts(model: Any, where: Where | tuple[Where, ...] | list[Where]) -> list[Part]:
    """Return the parts of `model` that `where` picks, each once, in the order of the model.

    Raises:
      TypeError: `where` is none of what it may be, or picks what cannot be called.
      ValueError: `where` picks nothing.
    """
    each = list(where) if isinstance(where, (tuple, list)) else [where]
    found = {part for one in each for part in _picked_by(model, one)}
    order = {path: i for i, (path, _) in enumerate(nodes(model))}
    return sorted(found, key=lambda part: (order[part[0]], part[1]))


def name_of(part: Part) -> str:
    """Return how a part is written: `layers[0].attention`, with the method behind it if it is not `__call__`."""
    path, method = part
    return (jtu.keystr(path) + ("" if method == "__call__" else f".{method}")).removeprefix(".")


def _picked_by(model: Any, where: Where) -> list[Part]:
    if isinstance(where, str):
        found = list(_of_pattern(model, _steps(where)))
    elif isinstance(where, type):
        found = [(path, "__call__") for path, node in nodes(model) if isinstance(node, where) and callable(node)]
    elif callable(where):
        # In a copy each node is an object of its own, by which it is found again.
        copy = jtu.tree_map(lambda leaf: leaf, model)
        found = list(_of_nodes(copy, where(copy)))
    else:
        raise TypeError(
            f"`taps(where=...)` must be a path, a class, a function of the model, or several of these; got "
            f'{short(where)}. Write for example `"layers[*].attention"` or `lambda model: model.layers[0]`.'
        )
    if not found:
        some = ", ".join(f"`{name_of((path, '__call__'))}`" for path, node in list(_callables(model))[:8])
        what = f"`{where}`" if isinstance(where, str) else f"`{getattr(where, '__qualname__', where)}`"
        raise ValueError(
            f"`taps(where=...)` must pick something in the model that can be called; got {what}, which picks nothing. "
            f"There are {some or 'none'}."
        )
    return found


def _callables(model: Any) -> Iterator[tuple[Path, Any]]:
    return ((path, node) for path, node in nodes(model) if path and callable(node))


def _of_pattern(model: Any, pattern: list[str]) -> Iterator[Part]:
    for path, node in nodes(model):
        steps = _steps(jtu.keystr(path))
        if callable(node) and _matches(steps, pattern):
            yield path, "__call__"
        is_owner = isinstance(node, eqx_core.Module) and bool(pattern) and _matches(steps, pattern[:-1])
        if is_owner and is_method(type(node), pattern[-1]):
            yield path, pattern[-1]


def _steps(path: str) -> list[str]:
    """Return the steps of a path, be it written as `layers[0].norm` or as `layers.0.norm`."""
    return [key.strip("'\"") or name for key, name in re.findall(r"\[([^\]]*)\]|([^.\[\]]+)", path)]


def _matches(steps: list[str], pattern: list[str]) -> bool:
    if not pattern or not steps:
        return steps == pattern or (bool(pattern) and all(step == "**" for step in pattern))
    if pattern[0] == "**":
        return _matches(steps, pattern[1:]) or _matches(steps[1:], pattern)
    return fnmatch.fnmatchcase(steps[0], pattern[0]) and _matches(steps[1:], pattern[1:])


def _of_nodes(model: Any, picked: Any) -> Iterator[Part]:
    paths = [path for path, node in nodes(model) if node is picked]
    if paths and callable(picked):
        yield from ((path, "__call__") for path in paths)
    elif isinstance(picked, (tuple, list)):
        for each in picked:
            yield from _of_nodes(model, each)
    elif isinstance(picked, eqx_core.internal.BoundMethod):
        owners = [path for path, node in nodes(model) if node is picked.__self__]
        yield from ((path, picked.__func__.__name__) for path in owners)
    else:
        where = f" at `{jtu.keystr(paths[0])}`" if paths else ""
        raise TypeError(
            f"`taps(where=...)` must pick parts of the model that can be called, or their methods; got "
            f"{short(picked)}{where}. Pick the layer that returns what you look for."
        )
