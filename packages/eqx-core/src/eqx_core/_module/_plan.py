"""Decide at class creation all that construction would otherwise ask anew for each instance."""

import abc
import dataclasses
import inspect
import operator
import types
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Generic, Protocol

from ._abstract import own_abstract, own_annotations, unfilled
from ._checks import BOUND, CONTAINERS, TRANSFORMED
from ._field import converter_of, is_static
from ._flatten import Care, Node
from ._init import is_init_var
from ._method import Method

Look = Callable[[Any, "Plan", int, Any], None]
"""Check one value: called with the instance, the plan, the index of the field and its value."""
Looks = tuple[tuple[int, Look], ...]


@dataclasses.dataclass(slots=True, kw_only=True)
class Plan:
    """How the instances of one class are made.

    Attributes:
      fields: The dataclass fields, by name.
      arguments: The same with the `InitVar`s: what a generated `__init__` may take.
      plain: The names of the fields which nothing on the class but their default stands for.
      values: Get the values of all fields of an instance, as far as they are its own.
      functions: Name and default of the fields that, left at the default, would look like methods.
      converters: Name and converter of the fields that have one.
      uninitialised: The names of the fields with `init=False`.
      checks: The `__check_init__` methods, most derived class first.
      abstract: Why the class cannot be instantiated, or None.
      unfilled: The abstract attributes, which no `__init__` can fill.
      generated: Whether `__init__` is generated.
      plain_new: Whether `object.__new__` makes the instance: the class is not abstract and has no `__new__`.
      careful: Whether construction takes more than `__init__` and a look at the values.
      suspects: The types of values that need a closer look.
      looks: What to look at in the values of an instance, by the tuple of their types; filled as instances come.
      node: How instances are flattened.
    """

    fields: dict[str, dataclasses.Field]
    arguments: dict[str, dataclasses.Field]
    plain: frozenset[str]
    values: Callable[[Any], tuple[Any, ...]]
    functions: tuple[tuple[str, Any], ...]
    converters: tuple[tuple[str, Callable[[Any], Any]], ...]
    uninitialised: tuple[str, ...]
    checks: tuple[Callable[[Any], None], ...]
    abstract: str | None
    unfilled: frozenset[str]
    generated: bool
    plain_new: bool
    careful: bool
    suspects: frozenset[type]
    looks: dict[tuple[type, ...], Looks]
    node: Node


def make_dataclass_of(cls: type, body: Mapping[str, Any]) -> None:
    """Make `cls` a dataclass, abstract attributes left out, and set its `__abstractvars__` and `__abstractclassvars__`.

    Args:
      body: What stood in the body of the class.
    """
    abstract = own_abstract(cls, body)
    abstract_before = any(map(_may_be_abstract, cls.__mro__[1:]))
    sets = unfilled(cls) if abstract or abstract_before else (frozenset(), frozenset())
    for name, names in zip(_ABSTRACT_SETS, sets, strict=True):
        type.__setattr__(cls, name, names)
    decorate = dataclasses.dataclass(init=False, repr=False, eq=False)
    if not abstract:
        decorate(cls)
        return
    annotations = own_annotations(cls)
    # A class variable is the one annotation that `dataclasses` passes over.
    cls.__annotations__ = {name: ClassVar if name in abstract else a for name, a in annotations.items()}
    decorate(cls)
    cls.__annotations__ = annotations
    for name in abstract:
        inherited = [kls.__dict__.get("__dataclass_fields__", {}) for kls in cls.__mro__[1:]]
        declared = next((fields[name] for fields in inherited if name in fields), None)
        if declared is None:
            del cls.__dataclass_fields__[name]
        else:
            cls.__dataclass_fields__[name] = declared


def _may_be_abstract(base: type) -> bool:
    if hasattr(base, "__abstractvars__"):
        return bool(base.__abstractvars__ or base.__abstractclassvars__)
    return base not in NOT_MIXINS and bool(own_annotations(base))


NOT_MIXINS = frozenset({Hashable, Generic, Protocol, abc.ABC, object})
_ABSTRACT_SETS = ("__abstractvars__", "__abstractclassvars__")


def make_plan(cls: type, *, generated: bool, is_abstract: bool) -> Plan:
    """Return the plan of a class that already is a dataclass, and register the class as a PyTree node.

    Args:
      generated: Whether `__init__` is generated.
      is_abstract: Whether it was declared as abstract.
    """
    fields = {declared.name: declared for declared in dataclasses.fields(cls)}
    everything: dict[str, dataclasses.Field] = cls.__dataclass_fields__
    arguments = {n: d for n, d in everything.items() if n in fields or is_init_var(d)}
    slots, functions, shadowed = _on_class(cls, fields)
    # A generated `__init__` assigns all that it takes.
    functions = tuple((n, default) for n, default in functions if not (generated and fields[n].init))
    statics = [name for name, declared in fields.items() if is_static(declared)]
    children = [name for name in fields if name not in statics]
    irregular = bool(shadowed or slots)
    converters = tuple((n, c) for n, declared in fields.items() if (c := converter_of(declared)) is not None)
    uninitialised = tuple(name for name, declared in fields.items() if not declared.init)
    checks = check_inits(cls)
    missing: frozenset[str] = cls.__abstractvars__
    abstract = _why_abstract(cls, is_abstract)
    return Plan(
        fields=fields,
        arguments=arguments,
        plain=frozenset(fields).difference(shadowed, slots),
        values=_getter(list(fields), frozenset(shadowed)),
        functions=functions,
        converters=converters,
        uninitialised=uninitialised,
        checks=checks,
        abstract=abstract,
        unfilled=missing,
        generated=generated,
        plain_new=abstract is None and cls.__new__ is object.__new__,
        careful=bool(irregular or functions or converters or uninitialised or checks or missing),
        looks={},
        suspects=TRANSFORMED | CONTAINERS | BOUND | {cls},
        node=Node(cls, children, statics, shadowed, Care.GENERAL if irregular else Care.PLAIN),
    )


def check_inits(cls: type) -> tuple[Callable[[Any], None], ...]:
    """Return the `__check_init__` methods of a class, most derived class first."""
    return tuple(vars(kls)["__check_init__"] for kls in cls.__mro__ if "__check_init__" in vars(kls))


_NOTHING = object()


def _on_class(cls: type, fields: Mapping[str, dataclasses.Field]) -> tuple[list[str], list[tuple[str, Any]], list[str]]:
    """Return what the class itself has under the names of fields.

    Returns:
      The names of the slots; name and value of the defaults that are functions; and the names under which there is a
      property, a method or another value than the field's default, which answers where the instance has no value.
    """
    slots: list[str] = []
    functions: list[tuple[str, Any]] = []
    shadowed: list[str] = []
    for name, declared in fields.items():
        value = _unbound(cls, name)
        if type(value) is types.MemberDescriptorType:
            slots.append(name)
        elif isinstance(value, Method) and value.__wrapped__ is declared.default:
            functions.append((name, declared.default))
        elif value is not _NOTHING and (value is not declared.default or inspect.isdatadescriptor(value)):
            shadowed.append(name)
    return slots, functions, shadowed


def _unbound(cls: type, name: str) -> Any:
    """Return what the classes of the hierarchy hold under a name."""
    for kls in cls.__mro__:
        if name in kls.__dict__:
            return kls.__dict__[name]
    return _NOTHING


def _getter(names: list[str], shadowed: frozenset[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return how to get the values of the fields; None for those that the class answers for."""
    if shadowed:
        return lambda instance: tuple(
            [instance.__dict__.get(name) if name in shadowed else getattr(instance, name) for name in names]
        )
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda instance: tuple([getattr(instance, name) for name in names])


def _why_abstract(cls: type, is_abstract: bool) -> str | None:
    name = f"`{cls.__module__}.{cls.__qualname__}`"
    if is_abstract:
        return f"Cannot instantiate abstract class {name}, which is declared with `is_abstract=True`. Use a subclass."
    names = sorted(cls.__abstractclassvars__)
    if names:
        return (
            f"Cannot instantiate abstract class {name} with abstract class attributes {', '.join(names)}. "
            f"Give each of them a value in the body of a subclass."
        )
    return None
