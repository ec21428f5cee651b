"""Declare attributes that a subclass must provide: `AbstractVar`, `AbstractClassVar`."""

import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar, get_origin

# What is imported for type checkers alone would not count as exported.
__all__ = ["AbstractClassVar", "AbstractVar", "abstract_kind", "own_abstract", "own_annotations", "unfilled"]

_T = TypeVar("_T")

if TYPE_CHECKING:
    # Under another name, that of an assignment, type checkers do not take it for a `ClassVar`.
    from typing import ClassVar as AbstractClassVar

    AbstractVar = Annotated[_T, "AbstractVar"]
else:

    class AbstractVar(Generic[_T]):
        """Annotate an instance attribute that subclasses must have, as a field or as a property.

        The class that declares it, and each subclass that does not provide it, cannot be instantiated. It is not a
        field, so it does not take part in the order of `__init__`'s arguments. It may be written as a string.

        Example:
          >>> from eqx_core import Module
          >>> class Shape(Module):
          ...     sides: AbstractVar[int]
          >>> class Square(Shape):
          ...     sides: int = 4
          >>> Square().sides
          4
        """

    class AbstractClassVar(Generic[_T]):
        """Annotate a class attribute that subclasses must have; see `AbstractVar`.

        Type checkers know a `ClassVar` by where it was imported from. For them, write in your own module
        `if TYPE_CHECKING: from typing import ClassVar as AbstractClassVar`, and import this one otherwise.

        Example:
          >>> from eqx_core import Module
          >>> class Solver(Module):
          ...     order: AbstractClassVar[int]
          >>> class Euler(Solver):
          ...     order = 1
          >>> Euler().order
          1
        """


def own_annotations(cls: type) -> dict[str, Any]:
    """Return the annotations in the body of `cls`, strings left as they are."""
    return inspect.get_annotations(cls)


def abstract_kind(annotation: Any, module: str) -> Any:
    """Return `AbstractVar` or `AbstractClassVar` if the annotation is one of them, else None.

    Args:
      module: The name of the module in which a string annotation is to be understood.
    """
    if isinstance(annotation, str):
        return _kind_of_text(annotation, module)
    if annotation is AbstractVar or annotation is AbstractClassVar:
        raise TypeError(f"`{annotation.__name__}` must not be unsubscripted. Write `{annotation.__name__}[T]` instead.")
    origin = get_origin(annotation)
    return origin if origin is AbstractVar or origin is AbstractClassVar else None


def _kind_of_text(annotation: str, module: str) -> Any:
    head, bracket, _ = annotation.strip().partition("[")
    first, *rest = head.strip().split(".")
    found = getattr(sys.modules.get(module), first, None)
    for name in rest:
        found = getattr(found, name, None)
    if found is None:
        # Imported inside a function: only its spelling can tell.
        found = {"AbstractVar": AbstractVar, "AbstractClassVar": AbstractClassVar}.get([first, *rest][-1])
    if found is not AbstractVar and found is not AbstractClassVar:
        return None
    if not bracket:
        raise TypeError(f"`{annotation}` must not be unsubscripted. Write `{annotation}[T]` instead.")
    return found


def own_abstract(cls: type, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the abstract annotations in the body of `cls`, by name.

    Raises:
      TypeError: One of them is unsubscripted, or has a value.
    """
    found = {}
    for name, annotation in own_annotations(cls).items():
        kind = abstract_kind(annotation, cls.__module__)
        if kind is None:
            continue
        if name in namespace:
            raise TypeError(
                f"The abstract attribute `{cls.__qualname__}.{name}` cannot have value {namespace[name]!r}. "
                f"Leave out the value, or annotate it with its type alone."
            )
        found[name] = kind
    return found


def unfilled(cls: type) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that `cls` leaves abstract: of instance attributes, and of class attributes.

    Walks from the root of the hierarchy down. A value, property or method of the name fills it, and so does an
    ordinary annotation; `ClassVar` fills a class attribute alone.
    """
    instance: set[str] = set()
    shared: set[str] = set()
    for kls in reversed(cls.__mro__):
        for name, annotation in own_annotations(kls).items():
            kind = abstract_kind(annotation, kls.__module__)
            if kind is AbstractClassVar:
                shared.add(name)
                instance.discard(name)
            elif kind is AbstractVar:
                instance.update({name} - shared)
            else:
                shared.discard(name)
                if not _is_class_var(annotation):
                    instance.discard(name)
        if kls is not object:
            instance.difference_update(kls.__dict__)
            shared.difference_update(kls.__dict__)
    return frozenset(instance), frozenset(shared)


def _is_class_var(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.strip().partition("[")[0].endswith("ClassVar")
    return annotation is ClassVar or get_origin(annotation) is ClassVar
