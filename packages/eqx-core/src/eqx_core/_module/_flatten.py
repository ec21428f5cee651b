"""Turn an instance into leaves and back: the PyTree node that every Module class is.

The children are the fields that are not static. The auxiliary data, which JAX compares whenever it compares two tree
structures, is the plain tuple `(*types of the static values, *static values)`: tuples compare in C, and the types keep
1, 1.0 and True apart. What does not fit (a field without a value, the attributes of a wrapped function, a static value
whose `==` misleads) goes into an `Irregular` instead.

Each class has its own pair of functions. Their code is written at the class's first flatten or unflatten, so that an
import does not pay for classes that are never used, and written anew when an instance comes along that needs more care.
"""

import enum
import functools
import types
from collections.abc import Iterable
from typing import Any

import jax.tree_util as jtu

from .._typed_key import type_of_static, typed_key

WRAPPER_NAMES = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__")
_ABSENT = object()


class Care(enum.IntEnum):
    """What the instances of a class need when they are flattened."""

    PLAIN = 0  # static values are atoms
    TYPED = 1  # static values are also floats and tuples
    GENERAL = 2  # fields may be missing, in slots, or beside the attributes of a wrapped function


class Irregular:
    """Auxiliary data that is more than a tuple of well-behaved static values.

    Attributes:
      values: The static values that are there, by name.
      missing: The names of the fields without a value of their own: a property or class attribute answers for them.
      wrapper: What `module_update_wrapper` has copied, by name.
    """

    __slots__ = ("key", "missing", "values", "wrapper")

    def __init__(self, values: dict[str, Any], missing: tuple[str, ...], wrapper: dict[str, Any]):
        self.values = values
        self.missing = missing
        self.wrapper = wrapper
        self.key = tuple((name, typed_key(value)) for name, value in values.items())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Irregular):
            return False
        return self.missing == other.missing and self.key == other.key and self.wrapper == other.wrapper

    def __hash__(self) -> int:
        return hash((self.missing, self.key))

    def __repr__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in (self.values | self.wrapper).items())


class Node:
    """How the instances of one class are flattened.

    Attributes:
      cls: The class.
      children: The names of the fields that are children, in order.
      statics: The names of the static fields, in order.
      shadowed: The names of the fields that a property or class attribute stands for, if the instance has no value.
      answers: Whether the class has a `__getattr__`, which might answer for a field without a value.
      care: What its instances are known to need.
    """

    def __init__(
        self,
        cls: type,
        children: Iterable[str],
        statics: Iterable[str],
        shadowed: Iterable[str],
        care: Care,
    ):
        self.cls = cls
        self.children = tuple(children)
        self.statics = tuple(statics)
        self.shadowed = frozenset(shadowed)
        self.answers = hasattr(cls, "__getattr__") or cls.__getattribute__ is not object.__getattribute__
        self.care = care
        self.new = functools.partial(_allocator(cls), cls)
        self.flatten, self.unflatten = (types.FunctionType(code, {"node": self}) for code in _first_codes())
        self._keys = tuple(map(jtu.GetAttrKey, self.children))
        jtu.register_pytree_with_keys(cls, self._flatten_with_keys, self.unflatten, self.flatten)

    def take_care(self, care: Care) -> None:
        """Flatten with at least this care from now on."""
        if care > self.care:
            self.care = care
            self.write()

    def write(self) -> None:
        """Write the code of `flatten` and `unflatten`."""
        namespace: dict[str, Any] = {"node": self, "new": self.new, "type_of": type_of_static, "get": _get}
        exec(_source(self), namespace)
        for name in ("flatten", "unflatten"):
            function = getattr(self, name)
            function.__globals__.update(namespace)
            function.__code__ = namespace[name].__code__

    def flatten_general(self, instance: Any) -> tuple[tuple[Any, ...], Any]:
        """Flatten an instance of which nothing is known."""
        own = instance.__dict__
        wrapper = {name: own[name] for name in WRAPPER_NAMES if name in own}
        values = {
            name: own.get(name, _ABSENT) if name in self.shadowed else _get_or_absent(instance, name)
            for name in self.children + self.statics
        }
        missing = tuple(name for name, value in values.items() if value is _ABSENT)
        children = tuple(values[name] for name in self.children if name not in missing)
        values = {name: values[name] for name in self.statics if name not in missing}
        if not missing and not wrapper:
            kinds = tuple(map(type_of_static, values.values()))
            if None not in kinds:
                return children, (*kinds, *values.values())
        return children, Irregular(values, missing, wrapper)

    def unflatten_general(self, aux: Any, children: Iterable[Any]) -> Any:
        """Build an instance from whatever `flatten_general` returned."""
        instance = self.new()
        if type(aux) is Irregular:
            names = [name for name in self.children if name not in aux.missing]
            values = aux.values | aux.wrapper
        else:
            names = self.children
            values = dict(zip(self.statics, aux[len(self.statics) :], strict=True))
        values |= zip(names, children, strict=True)
        for name, value in values.items():
            if name in self.shadowed or name in WRAPPER_NAMES:
                instance.__dict__[name] = value
            else:
                object.__setattr__(instance, name, value)
        return instance

    def _flatten_with_keys(self, instance: Any) -> tuple[Iterable[tuple[Any, Any]], Any]:
        children, aux = self.flatten(instance)
        keys = self._keys
        if type(aux) is Irregular and aux.missing:
            keys = [key for key in keys if key.name not in aux.missing]
        return tuple(zip(keys, children, strict=True)), aux


def _allocator(cls: type) -> Any:
    """Return the `__new__` that makes bare instances: that of the built-in class below, `object` but for exceptions."""
    found = (vars(kls).get("__new__") for kls in cls.__mro__)
    return next(new for new in found if type(new) is types.BuiltinMethodType)


_get = object.__getattribute__


def _get_or_absent(instance: Any, name: str) -> Any:
    try:
        return _get(instance, name)
    except AttributeError:
        return _ABSENT


_FIRST = """
def flatten(instance):
    node.write()
    return node.flatten(instance)

def unflatten(aux, children):
    node.write()
    return node.unflatten(aux, children)
"""

_GENERAL = """
def flatten(instance):
    return node.flatten_general(instance)

def unflatten(aux, children):
    return node.unflatten_general(aux, children)
"""


@functools.cache
def _first_codes() -> tuple[types.CodeType, types.CodeType]:
    namespace: dict[str, Any] = {}
    exec(_FIRST, namespace)
    return namespace["flatten"].__code__, namespace["unflatten"].__code__


def _source(node: Node) -> str:
    if node.care is Care.GENERAL:
        return _GENERAL
    children, statics = node.children, node.statics
    read = "get(instance, '{}')" if node.answers else "instance.{}"
    values = [f"s{i}" for i in range(len(statics))]
    kinds = [f"type({value})" if node.care is Care.PLAIN else f"k{value}" for value in values]
    lines = ["def flatten(instance):", " try:"]
    for name, value, kind in zip(statics, values, kinds, strict=True):
        lines.append(f"  {value} = {read.format(name)}")
        if node.care is Care.TYPED:
            lines += [
                f"  {kind} = type_of({value})",
                f"  if {kind} is None: return node.flatten_general(instance)",
            ]
    leaves = "".join(f"{read.format(name)}, " for name in children)
    lines.append(f"  return ({leaves}), ({''.join(f'{x}, ' for x in kinds + values)})")
    lines += [" except AttributeError:", "  return node.flatten_general(instance)"]
    lines += ["def unflatten(aux, children):", " instance = new()", " own = instance.__dict__"]
    if statics:
        # An `Irregular` cannot be unpacked.
        targets = "_, " * len(statics) + "".join(f"own[{name!r}], " for name in statics)
        lines += [" try:", f"  {targets}= aux", " except TypeError:", "  return node.unflatten_general(aux, children)"]
    else:
        lines += [" if aux: return node.unflatten_general(aux, children)"]
    if children:
        lines += [f" {''.join(f'own[{name!r}], ' for name in children)}= children"]
    return "\n".join([*lines, " return instance"])
