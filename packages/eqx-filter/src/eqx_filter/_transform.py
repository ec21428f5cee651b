"""What the transformed callables have in common: they wrap one, bind like methods, and work as decorators."""

import abc
from collections.abc import Callable, Iterable
from typing import Any

import eqx_core

UNSET: Any = object()
"""The default of `fun` in each transformation: called without it, the transformation is a decorator factory."""


class _OfWrapped:
    """An attribute that an instance takes from what it wraps, and the class has for itself."""

    def __init__(self, name: str, of_class: Any):
        self.name = name
        self.of_class = of_class

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self.of_class if instance is None else getattr(instance.__wrapped__, self.name)


class _ModuleOfWrapped(str):
    """The same for `__module__`, which Python wants to be a string on a class."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else instance.__wrapped__.__module__

    def __reduce__(self) -> Any:
        # A class is pickled by the name of its module, which has to be an ordinary string by then.
        return str, (str(self),)


class _TransformedMeta(type(eqx_core.Module)):
    # What `module_update_wrapper` does by copying is done by looking up: the copies would have to be flattened and
    # compared in each call of a jitted transformation.
    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **kwargs: Any) -> Any:
        cls = super().__new__(mcs, name, bases, namespace, **kwargs)
        if "__call__" in namespace:
            type.__setattr__(cls, "__doc__", _OfWrapped("__doc__", cls.__doc__))
            type.__setattr__(cls, "__annotations__", _OfWrapped("__annotations__", cls.__annotations__))
            type.__setattr__(cls, "__module__", _ModuleOfWrapped(cls.__module__))
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
