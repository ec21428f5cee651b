"""What the transformed callables have in common: they wrap one, bind like methods, and work as decorators."""

import abc
from collections.abc import Callable, Iterable
from typing import Any

import eqx_core
import eqx_core.internal

UNSET: Any = object()
"""The default of `fun` in each transformation: called without it, the transformation is a decorator factory."""


class _TransformedMeta(type(eqx_core.Module)):
    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **kwargs: Any) -> Any:
        cls = super().__new__(mcs, name, bases, namespace, **kwargs)
        if "__call__" in namespace:
            eqx_core.internal.borrow_attributes(cls, "__wrapped__")
        return cls


class Transformed(eqx_core.Module, metaclass=_TransformedMeta):
    """A callable Module that wraps another callable, from which it takes its name and documentation.

    Looked up on an instance, it takes the instance as its first argument, as a function would.
    """

    @property
    @abc.abstractmethod
    def __wrapped__(self) -> Callable[..., Any]:
        """The callable that is transformed."""

    @abc.abstractmethod
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the transformed callable."""

    def __getattr__(self, name: str) -> Any:
        if name in ("__name__", "__qualname__"):
            return getattr(self.__wrapped__, name)
        raise AttributeError(f"`{type(self).__qualname__}` has no attribute {name!r}")

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else eqx_core.Partial(self, instance)


def refuse_removed(name: str, options: Iterable[str], removed: Iterable[str]) -> None:
    """Raise if one of the options of the transformation `name` is among those that Equinox 0.10.0 removed."""
    for option in options:
        if option in removed:
            raise ValueError(
                f"`{name}({option}=...)` must not be given: the option went away in Equinox 0.10.0. "
                f"Split the arguments with `eqx.partition` and pass the parts separately instead."
            )
