"""Give fields their values: the `__init__` of a Module that does not write its own, and assignment in one that does."""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ._field import converter_of
from ._flatten import WRAPPER_NAMES, Care

UNDER_CONSTRUCTION: dict[int, frozenset[str]] = {}
"""By the `id` of each instance whose `__init__` runs: the names that may be assigned without further questions.

The frame that runs `__init__` keeps the instance alive, so an `id` cannot be taken by another one meanwhile.
"""


def generated_init(cls: type, fields: Mapping[str, dataclasses.Field]) -> Callable[..., None]:
    """Return an `__init__` that takes the fields (and `InitVar`s) in order, as a dataclass's does.

    Args:
      fields: The fields of the class, `InitVar`s among them and class variables not.

    Raises:
      TypeError: A field without default follows one with.
    """
    outer: dict[str, Any] = {
        "_eqx_id": id,
        "_eqx_building": UNDER_CONSTRUCTION,
        "_eqx_refuse": refuse_assignment,
        "_eqx_set": object.__setattr__ if cls.__setattr__ is assign_field else setattr,
        "_eqx_factory": _Factory(),
    }
    this = "self" if "self" not in fields else "_eqx_self"
    parameters: dict[bool, list[str]] = {False: [this], True: []}
    body: list[str] = []
    annotations: dict[str, Any] = {}
    defaulted = None
    for name, declared in fields.items():
        if declared.init:
            parameters[declared.kw_only is True].append(_parameter(declared, outer))
            annotations[name] = _parameter_type(declared)
            if not declared.kw_only and _has_default(declared):
                defaulted = name
            elif not declared.kw_only and defaulted is not None:
                raise TypeError(f"non-default argument {name!r} follows default argument {defaulted!r}")
        value = _value(declared, outer)
        if value is not None and not is_init_var(declared):
            body.append(f"  _eqx_set({this}, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        given = ", ".join(name for name, declared in fields.items() if is_init_var(declared))
        body.append(f"  {this}.__post_init__({given})")
    signature = ", ".join([*parameters[False], *["*"][: len(parameters[True])], *parameters[True]])
    lines = [
        f"def make({', '.join(outer)}):",
        f" def __init__({signature}):",
        f"  if _eqx_id({this}) not in _eqx_building: _eqx_refuse({this}, '__init__')",
        *body,
        " return __init__",
    ]
    made: dict[str, Any] = {}
    # In the module of the class, so that annotations that are strings can be evaluated as for a dataclass.
    exec("\n".join(lines), vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}, made)
    init = made["make"](**outer)
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    init.__annotations__ = annotations | {"return": None}
    return init


class _Factory:
    """The default, as a signature shows it, of a field with a `default_factory`."""

    def __repr__(self) -> str:
        return "<factory>"


def refuse_assignment(instance: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(
        f"cannot assign to field {name!r} of `{type(instance).__qualname__}`: Modules are immutable. "
        f"Make a changed copy with `eqx.tree_at`, or assign in `__init__` to a name that the class declares as a field."
    )


def assign_field(instance: Any, name: str, value: Any) -> None:
    """Set an attribute while `__init__` runs: the `__setattr__` of Modules."""
    try:
        if name in UNDER_CONSTRUCTION[id(instance)]:
            instance.__dict__[name] = value
            return
    except KeyError:
        assignable: Any = ()
    else:
        plan = type(instance).__module_plan__
        assignable = plan.fields
        if name in WRAPPER_NAMES:
            plan.node.take_care(Care.GENERAL)
            assignable = WRAPPER_NAMES
    # `typing` marks what `SomeModule[int](...)` has made.
    if name == "__orig_class__" or name in assignable:
        object.__setattr__(instance, name, value)
    else:
        refuse_assignment(instance, name)


def is_init_var(declared: dataclasses.Field) -> bool:
    """Return whether a dataclass field is an argument of `__init__` and nothing more."""
    # Its annotation may be a string, which `dataclasses` has resolved.
    return declared._field_type is dataclasses._FIELD_INITVAR  # pyright: ignore[reportAttributeAccessIssue]


def _has_default(declared: dataclasses.Field) -> bool:
    return declared.default is not dataclasses.MISSING or declared.default_factory is not dataclasses.MISSING


def _parameter(declared: dataclasses.Field, namespace: dict[str, Any]) -> str:
    name = declared.name
    if declared.default_factory is not dataclasses.MISSING:
        return f"{name}=_eqx_factory"
    if declared.default is not dataclasses.MISSING:
        namespace[f"_eqx_default_{name}"] = declared.default
        return f"{name}=_eqx_default_{name}"
    return name


def _value(declared: dataclasses.Field, namespace: dict[str, Any]) -> str | None:
    """Return the expression for a field's value, None if `__init__` leaves it alone."""
    name = declared.name
    if declared.default_factory is dataclasses.MISSING:
        return name if declared.init else None
    make = f"_eqx_make_{name}"
    namespace[make] = declared.default_factory
    return f"{make}() if {name} is _eqx_factory else {name}" if declared.init else f"{make}()"


def _parameter_type(declared: dataclasses.Field) -> Any:
    """Return the type to expect in `__init__`: with a converter, of the converter's first parameter."""
    converter = converter_of(declared)
    if converter is None:
        return declared.type
    try:
        annotation = _first_annotation(converter)
        if isinstance(annotation, str):
            annotation = _first_annotation(converter, eval_str=True)
    except Exception:  # It has no signature, or its annotations cannot be evaluated: nothing a type checker could use.
        return Any
    return Any if annotation is inspect.Parameter.empty else annotation


def _first_annotation(converter: Callable[[Any], Any], **kwargs: Any) -> Any:
    parameters = list(inspect.signature(converter, **kwargs).parameters.values())
    return parameters[0].annotation if parameters else inspect.Parameter.empty
