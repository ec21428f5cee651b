"""Warn of, or refuse, values that would not do in a field what the user hopes for."""

import sys
import types
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.tree_util as jtu

from .._is_array import is_array, is_array_like, is_inexact_array_like

# What `jax.jit`, `jax.grad`, `jax.vmap`, ... return: most of them are functions with a `__wrapped__`.
TRANSFORMED = frozenset({types.FunctionType, type(jax.jit(lambda: None)), jax.custom_jvp, jax.custom_vjp})
BOUND: set[type] = {types.MethodType}
"""The types of bound methods; `BoundMethod` joins them when it is defined."""
CONTAINERS = frozenset({list, tuple, dict, set})


def check_field_value(instance: Any, name: str, value: Any, suspects: frozenset[type]) -> None:
    """Check one field's value, and what its lists, tuples, sets and dicts hold.

    Args:
      suspects: The types of values that can do harm.

    Raises:
      ValueError: It is the instance itself, or one of its bound methods.
    """
    for path, item in _items(value, f"{type(instance).__qualname__}.{name}", suspects):
        kind = type(item)
        if item is instance:
            raise ValueError(
                f"`{path}` must not be the instance itself: it would contain itself without end. "
                f"Leave the field out and use `self`."
            )
        if kind in BOUND and item.__self__ is instance:
            method = item.__func__.__name__
            raise ValueError(
                f"Cannot assign methods in __init__: `{path}` is the instance's own method `{method}`, so it would "
                f"hold a second copy of the instance. Call `self.{method}` where it is needed, or make `{name}` a "
                f"method that does."
            )
        if kind in TRANSFORMED and hides_arrays(item):
            warn_hidden_arrays(path)


def _items(value: Any, path: str, suspects: frozenset[type]) -> Iterable[tuple[str, Any]]:
    kind = type(value)
    if kind not in CONTAINERS:
        yield path, value
        return
    items = value.values() if kind is dict else value
    if not suspects.isdisjoint(map(type, items)):
        for key, item in value.items() if kind is dict else enumerate(value):
            yield from _items(item, f"{path}[{key!r}]", suspects)


def hides_arrays(function: Any) -> bool:
    """Return whether a callable wraps, at any depth, one that holds arrays."""
    while (function := getattr(function, "__wrapped__", None)) is not None:
        if type(function) not in TRANSFORMED and any(map(is_array_like, jtu.tree_leaves(function))):
            return True
    return False


def warn_hidden_arrays(path: str) -> None:
    """Warn of a JAX-transformed callable that hides arrays, stored at `path`."""
    _warn(
        f"Possibly assigning a JAX-transformed callable as an attribute: `{path}` is the result of a `jax.jit`, "
        f"`jax.vmap`, `jax.grad`, ... of a callable that holds arrays. They are hidden in there: they are not leaves, "
        f"will not train and are constants under `jit`. Write `eqx.filter_jit`, `eqx.filter_vmap`, "
        f"`eqx.filter_grad`, ... instead, whose results are PyTrees."
    )


def check_static_value(instance: Any, name: str, value: Any) -> None:
    """Warn if the value of a static field holds an array."""
    for path, leaf in _leaves(value):
        if is_array(leaf):
            _warn(
                f"A JAX array is being set as static! `{type(instance).__qualname__}.{name}{jtu.keystr(path)}` holds "
                f"an array of shape {leaf.shape} and dtype {leaf.dtype}, but static fields are compared by `==` and "
                f"hashed. Remove `static=True` from the field, or store a tuple of numbers."
            )
            return


def _leaves(value: Any) -> list[tuple[Any, Any]]:
    try:
        return jtu.tree_flatten_with_path(value)[0]
    except ValueError:
        return []  # The keys of a dict cannot be sorted. Such a value is fine if nothing ever flattens it.


def check_uninitialised_field(instance: Any, name: str, value: Any) -> None:
    """Warn if a field that is left out of `__init__` ends up with something that would train."""
    if any(is_inexact_array_like(leaf) for _, leaf in _leaves(value)):
        _warn(
            f"Using `field(init=False)` on `{type(instance).__qualname__}.{name}` can lead to surprising behaviour: "
            f"it holds floating-point values, which become parameters like any other and are not computed anew when "
            f"the fields they came from change. Make it a property or a `functools.cached_property`, or write an "
            f"`__init__`."
        )


def check_post_init(cls: type, generated: bool) -> None:
    """Warn at class creation if there is a `__post_init__` that nothing will call."""
    if not generated and hasattr(cls, "__post_init__"):
        _warn(
            f"`{cls.__module__}.{cls.__qualname__}` has both an `__init__` method and a `__post_init__` method, own "
            f"or inherited. The latter is only called by the `__init__` that a Module generates, so it will not run. "
            f"Move its code into `__init__`, or call it there."
        )


def convert(instance: Any, name: str, converter: Callable[[Any], Any]) -> None:
    """Replace a field's value by what its converter makes of it."""
    object.__setattr__(instance, name, converter(getattr(instance, name)))


def _warn(text: str) -> None:
    """Warn at the line that constructs the instance or defines the class."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
