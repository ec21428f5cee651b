"""Look up a method on an instance: what is bound is a PyTree, at the price of a light descriptor."""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.tree_util as jtu

bound_method: Any = None
"""The class `BoundMethod`, set when it is defined: it is a Module itself."""

_new = object.__new__

# Callables which, stored on a class, become plain bound methods of its instances.
METHODS = frozenset({types.FunctionType, type(jax.jit(lambda: None)), type(functools.lru_cache(lambda: None))})


def bind(function: Callable[..., Any], instance: Any) -> Any:
    """Return a `BoundMethod` without the ado of its construction."""
    bound = _new(bound_method)
    own = bound.__dict__
    own["__func__"] = function
    own["__self__"] = instance
    return bound


def rebind(found: Any, instance: Any) -> Any:
    """Return what a descriptor has given; if it is a method of this very instance, as a `BoundMethod`."""
    if type(found) is types.MethodType and found.__self__ is instance:
        return bind(found.__func__, instance)
    return found


class Method:
    """A function in the body of a Module class.

    On an instance it gives a `BoundMethod`, on the class the function itself.
    """

    def __init__(self, function: Callable[..., Any]):
        self.__wrapped__: Any = function
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self.__wrapped__
        return bind(self.__wrapped__, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function: what stands in `vars(cls)` is taken for one by class decorators and `__init_subclass__`."""
        return self.__wrapped__(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":  # Not there yet while it is being copied.
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)


class DescribedMethod(Method):
    """An object in the body of a Module class with a `__get__` of its own, as decorators written as classes have."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        found = type(self.__wrapped__).__get__(self.__wrapped__, instance, owner)
        return rebind(found, instance)

    def __set_name__(self, owner: type, name: str) -> None:
        set_name = getattr(type(self.__wrapped__), "__set_name__", None)
        if set_name is not None:
            set_name(self.__wrapped__, owner, name)


class InheritedMethod:
    """A method that a Module class inherits from a class that is none.

    It asks the classes behind the Module in the order of inheritance, as Python would without it.
    """

    def __init__(self, owner: type, name: str):
        self.owner = owner
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return getattr(super(self.owner, owner), self.name)
        return rebind(getattr(super(self.owner, instance), self.name), instance)


class CachedProperty(functools.cached_property):
    """A `functools.cached_property` that keeps no tracer beyond the transformation that it belongs to."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        value = super().__get__(instance, owner)
        if instance is not None and any(isinstance(leaf, jax.core.Tracer) for leaf in jtu.tree_leaves(value)):
            instance.__dict__.pop(self.attrname, None)
        return value


_DESCRIPTORS = {staticmethod, classmethod, property, types.MethodType, CachedProperty, Method, DescribedMethod}
_NEVER_METHODS = frozenset({type, dataclasses.Field, int, float, bool, str, tuple, types.NoneType} | _DESCRIPTORS)


def is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def wrap_attribute(name: str, value: Any) -> Any:
    """Return what to store on a Module class for `value`, so that its instances behave."""
    kind = type(value)
    if is_dunder(name) or kind in _NEVER_METHODS:
        return value
    if kind in METHODS:
        return Method(value)
    if kind is functools.cached_property:
        return CachedProperty(value.func)
    # With a `__set__` it is some kind of property.
    return DescribedMethod(value) if hasattr(kind, "__get__") and not hasattr(kind, "__set__") else value


def inherited_methods(cls: type, foreign: list[type]) -> dict[str, InheritedMethod]:
    """Return, by name, a stand-in for each method that instances of `cls` would take from one of the `foreign` classes.

    Args:
      foreign: The classes in `cls.__mro__` that are not Modules.
    """
    found = {}
    for base in foreign:
        for name, value in vars(base).items():
            if type(value) in METHODS and not is_dunder(name):
                first = next(kls for kls in cls.__mro__ if name in vars(kls))
                if first is base:
                    found[name] = InheritedMethod(cls, name)
    return found
