"""Find arrays that JAX cannot see: those inside of functions and of objects that are no PyTrees."""

import functools
import types
from collections.abc import Iterator
from typing import Any

import jax.tree_util as jtu

from ._is_array import is_array
from ._keyed_children import keyed_children
from ._module import Module

# Objects of these packages hold much that is not the user's.
_OPAQUE = ("jax", "jaxlib", "numpy", "builtins")


def hidden_arrays(leaf: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays that can be reached from a leaf that is no array, with how to reach each.

    The way is written as Python would be, with `closure['x']`, `default['x']` and `global['x']` for what a function holds
    or reads under the name `x`. Of the names that are global only Modules count.
    """
    # Objects are kept while their ids are: an id is unique only among living objects.
    seen = {id(leaf): leaf}
    stack = list(_inside(leaf))[::-1]
    while stack:
        where, value = stack.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if is_array(value):
            yield where, value
        else:
            stack += [(where + step, part) for step, part in _parts(value)][::-1]


def _parts(value: Any) -> list[tuple[str, Any]]:
    try:
        children = keyed_children(value)
    except (TypeError, ValueError):
        # JAX cannot sort the keys of this dict. It is nobody's PyTree, so all the more it hides what it holds.
        children = list(map(_with_key, value.items())) if isinstance(value, dict) else None
    if children is None:
        return list(_inside(value))
    return [(jtu.keystr((key,)), child) for key, child in children]


def _with_key(item: tuple[Any, Any]) -> tuple[Any, Any]:
    return jtu.DictKey(item[0]), item[1]


def _inside(leaf: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a leaf holds, one step down."""
    if isinstance(leaf, functools.partial):
        yield from ((".func", leaf.func), (".args", leaf.args), (".keywords", leaf.keywords))
    elif isinstance(leaf, types.MethodType):
        yield from ((".__self__", leaf.__self__), (".__func__", leaf.__func__))
    elif isinstance(leaf, types.FunctionType):
        yield from _inside_function(leaf)
    elif hasattr(leaf, "__wrapped__"):
        yield ".__wrapped__", leaf.__wrapped__
    elif not isinstance(leaf, (type, types.ModuleType)) and _package(type(leaf)) not in _OPAQUE:
        for name, value in getattr(leaf, "__dict__", {}).items():
            yield f".{name}", value


def _inside_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    if "__wrapped__" in function.__dict__:
        yield ".__wrapped__", function.__dict__["__wrapped__"]
        # What a transform of JAX closes over is how it does its work.
        if str(function.__globals__.get("__name__")).split(".")[0] in _OPAQUE:
            return
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if cell != types.CellType():
            yield f"closure[{name!r}]", cell.cell_contents
    defaults = function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount][-len(defaults) :] if defaults else ()
    for name, value in (*zip(names, defaults, strict=True), *(function.__kwdefaults__ or {}).items()):
        yield f"default[{name!r}]", value
    for name in _global_names(code):
        value = function.__globals__.get(name)
        if isinstance(value, Module):
            yield f"global[{name!r}]", value


def _global_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _package(cls: type) -> str:
    return cls.__module__.split(".")[0]
