"""Bring the arguments of a call into one form, in which `f(x=1)` and `f(1)` are the same."""

import inspect
from collections.abc import Callable
from typing import Any

import jax.tree_util as jtu

import eqx_core


class Signature:
    """How a callable may be called; of a callable that does not say, any call is taken as it comes."""

    def __init__(self, fun: Callable[..., Any]):
        self._signature = _signature_of(fun)
        self._arrangements: dict[tuple[int, tuple[str, ...]], tuple[tuple[str, ...], tuple[str, ...]]] = {}

    def arrange(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments, by position where they may be.

        Raises:
          TypeError: They are not those of the callable.
        """
        if self._signature is None:
            return args, kwargs
        form = len(args), tuple(kwargs)
        arrangement = self._arrangements.get(form)
        if arrangement is None:
            bound = self._signature.bind(*args, **{name: name for name in kwargs})
            arrangement = bound.args[len(args) :], tuple(bound.kwargs)
            self._arrangements[form] = arrangement
        by_position, by_name = arrangement
        return (*args, *[kwargs[name] for name in by_position]), {name: kwargs[name] for name in by_name}

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise Python's usual TypeError unless the arguments are those of the callable."""
        if self._signature is not None:
            self._signature.bind(*args, **kwargs)

    def describe(self, path: tuple[Any, ...]) -> str:
        """Return how the user would write the place `path` in the PyTree `(fun, args, kwargs)`."""
        where, *rest = path
        if where.idx == 0:
            return f"fun{jtu.keystr(tuple(rest))}"
        key, *rest = rest
        name = key.key if where.idx == 2 else self._name(key.idx)
        return f"{name}{jtu.keystr(tuple(rest))}"

    def _name(self, position: int) -> str:
        parameters = () if self._signature is None else self._signature.parameters.values()
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return names[position] if position < len(names) else f"args[{position}]"


def _signature_of(fun: Callable[..., Any]) -> inspect.Signature | None:
    try:
        # What is under our own wrappers takes the very same arguments. Of others that is not sure: a function that
        # `functools.wraps` another may well take them by name alone.
        return inspect.signature(_unwrapped(fun), follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def _unwrapped(fun: Any) -> Any:
    while isinstance(fun, eqx_core.Module) and hasattr(fun, "__wrapped__"):
        fun = fun.__wrapped__  # pyright: ignore[reportAttributeAccessIssue]
    return fun
