"""Make a class a Module: a dataclass, a PyTree node and an abstract base class at once; and construct its instances."""

import abc
import dataclasses
import inspect
import types
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, dataclass_transform

import jax.tree_util as jtu

from .._tree_equal import tree_equal
from .._typed_key import ATOMS, type_of_static
from ._checks import (
    TRANSFORMED,
    check_field_value,
    check_post_init,
    check_static_value,
    check_uninitialised_field,
    convert,
    hides_arrays,
    warn_hidden_arrays,
)
from ._field import field, static_field
from ._flatten import WRAPPER_NAMES, Care
from ._init import UNDER_CONSTRUCTION, assign_field, generated_init
from ._method import inherited_methods, wrap_attribute
from ._plan import NOT_MIXINS, Look, Looks, Plan, check_inits, make_dataclass_of, make_plan


class StrictConfig:
    """Mark a class as abstract by `strict=StrictConfig(force_abstact=True)`; kept for compatibility.

    Other options are accepted and ignored. Write `is_abstract=True` as a class keyword instead.

    Example:
      >>> class Base(Module, strict=StrictConfig(force_abstact=True)):
      ...     pass
    """

    def __new__(cls, force_abstact: bool = False, **kwargs: Any) -> Any:
        return None if force_abstact else False


class _Signature:
    """The `__signature__` of Module classes: that of `__init__`, since `ModuleMeta.__call__` takes anything.

    Classes may set one of their own.
    """

    def __get__(self, cls: Any, meta: Any = None) -> inspect.Signature:
        if cls is None:
            raise AttributeError("__signature__")
        signature = inspect.signature(cls.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])


def _construct(cls: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Make an instance: the `__call__` of the metaclass."""
    plan: Plan = cls.__module_plan__
    if plan.plain_new:
        instance = object.__new__(cls)
    else:
        if plan.abstract is not None:
            raise TypeError(plan.abstract)
        instance = cls.__new__(cls, *args, **kwargs)
        if not type.__instancecheck__(cls, instance):
            return instance
    key = id(instance)
    UNDER_CONSTRUCTION[key] = plan.plain
    try:
        returned = cls.__init__(instance, *args, **kwargs)
    finally:
        UNDER_CONSTRUCTION.pop(key, None)  # A `__new__` may return one instance time and again.
    if returned is not None:
        raise TypeError(f"`{cls.__qualname__}.__init__` must return None; got {returned!r}. Leave out the `return`.")
    if plan.careful:
        _complete(instance, plan)
    try:
        values = plan.values(instance)
    except AttributeError:
        raise _uninitialised(instance, plan) from None
    kinds = tuple(map(type, values))
    looks = plan.looks.get(kinds)
    if looks is None:
        looks = _plan_looks(plan, kinds)
    for index, look in looks:
        look(instance, plan, index, values[index])
    if plan.careful:
        for name in plan.uninitialised:
            check_uninitialised_field(instance, name, values[list(plan.fields).index(name)])
        for check in plan.checks:
            check(instance)
    return instance


@dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field, field, static_field))
class ModuleMeta(abc.ABCMeta):
    """The metaclass of `Module`. It may be subclassed; its methods then want their `super()`."""

    __module_plan__: Plan
    __abstractvars__: frozenset[str]
    __abstractclassvars__: frozenset[str]

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        is_abstract: bool = False,
        strict: bool | None = False,
        **kwargs: Any,
    ) -> Any:
        body = {key: wrap_attribute(key, value) for key, value in namespace.items()}
        cls = super().__new__(mcs, name, bases, body, **kwargs)
        undocumented = cls.__doc__ is None
        if undocumented:
            # Spares `dataclasses` the making of a docstring, which costs more than the rest of the class.
            type.__setattr__(cls, "__doc__", "-")
        make_dataclass_of(cls, namespace)
        if undocumented:
            type.__setattr__(cls, "__doc__", None)
        generated = "__init__" not in namespace and _inherits_generated_init(cls)
        plan = make_plan(cls, generated=generated, is_abstract=is_abstract or strict is None)
        type.__setattr__(cls, "__module_plan__", plan)
        if generated:
            inherited = cls.__init__
            init = generated_init(cls, plan.arguments)
            init.__doc__ = inherited.__doc__ if type(inherited) is types.FunctionType else None
            type.__setattr__(cls, "__init__", init)
        check_post_init(cls, generated)
        foreign = [kls for kls in cls.__mro__ if not isinstance(kls, ModuleMeta) and kls not in NOT_MIXINS]
        if foreign:
            for key, method in inherited_methods(cls, foreign).items():
                type.__setattr__(cls, key, method)
        return cls

    if not TYPE_CHECKING:  # A type checker is to look at `__init__` instead.
        __call__ = _construct

    def __setattr__(cls, name: str, value: Any) -> None:
        super().__setattr__(name, wrap_attribute(name, value))
        if name == "__check_init__":
            _renew_checks(cls)

    __signature__ = _Signature()

    def register(cls, subclass: type) -> Any:
        """Refuse to make `subclass` a virtual subclass: it would not be a PyTree."""
        raise ValueError(
            f"`{cls.__qualname__}.register(subclass=...)` is not possible for Modules; got {subclass!r}. "
            f"Write `class {subclass.__name__}({cls.__qualname__})` instead."
        )


def _inherits_generated_init(cls: type) -> bool:
    for base in cls.__mro__[1:]:
        if isinstance(base, ModuleMeta):
            return base.__module_plan__.generated
        if base.__init__ is not object.__init__:
            return False
    return True


def _renew_checks(cls: ModuleMeta) -> None:
    cls.__module_plan__.checks = check_inits(cls)
    cls.__module_plan__.careful = True
    for subclass in cls.__subclasses__():
        _renew_checks(subclass)


def _complete(instance: Any, plan: Plan) -> None:
    """Refuse an instance that lacks something; give it the defaults it has not taken over, and convert."""
    if plan.unfilled:
        raise TypeError(
            f"Cannot instantiate abstract class `{type(instance).__qualname__}` with abstract attributes "
            f"{', '.join(sorted(plan.unfilled))}. Declare each of them, as a field or a property, in a subclass."
        )
    for name, default in plan.functions:
        if name not in instance.__dict__:
            object.__setattr__(instance, name, default)
    if not all(hasattr(instance, name) for name in plan.fields):
        raise _uninitialised(instance, plan)
    for name, converter in plan.converters:
        convert(instance, name, converter)


def _uninitialised(instance: Any, plan: Plan) -> TypeError:
    name = next(name for name in plan.fields if not hasattr(instance, name))
    return TypeError(
        f"Field {name!r} was not initialized. Assign `self.{name}` in "
        f"`{type(instance).__qualname__}.__init__`, or give the field a default."
    )


def _plan_looks(plan: Plan, kinds: tuple[type, ...]) -> Looks:
    """Return which values of these types need a look at each construction: the index of the field, and what to do."""
    looks: list[tuple[int, Look]] = []
    for index, (name, kind) in enumerate(zip(plan.fields, kinds, strict=True)):
        if kind in TRANSFORMED:
            looks.append((index, _look_at_function))
        elif kind in plan.suspects:
            looks.append((index, _look_inside))
        if name in plan.node.statics and kind not in ATOMS:
            plan.node.take_care(Care.TYPED)
            if kind is not float:
                looks.append((index, _look_at_static))
    if len(plan.looks) >= 256:  # A generic container may see any number of types.
        plan.looks.clear()
    plan.looks[kinds] = tuple(looks)
    return plan.looks[kinds]


def _look_at_function(instance: Any, plan: Plan, index: int, value: Any) -> None:
    if hides_arrays(value):
        warn_hidden_arrays(f"{type(instance).__qualname__}.{_name(plan, index)}")


def _look_inside(instance: Any, plan: Plan, index: int, value: Any) -> None:
    check_field_value(instance, _name(plan, index), value, plan.suspects)


def _look_at_static(instance: Any, plan: Plan, index: int, value: Any) -> None:
    if type_of_static(value) is None:
        check_static_value(instance, _name(plan, index), value)


def _name(plan: Plan, index: int) -> str:
    return list(plan.fields)[index]


# Here as well as on the metaclass, so that type checkers also see it in classes with another metaclass.
@dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field, field, static_field))
class Module(Hashable, metaclass=ModuleMeta):
    """Base class of models, layers and every other parameterised function: a dataclass that is a PyTree.

    Annotate the fields in the body of the class; they are the PyTree's children, or part of its structure if declared
    with `field(static=True)`. Without an `__init__` of its own a class gets that of a dataclass. After `__init__` the
    instance is immutable.

    A method looked up on an instance is a PyTree too, so it can be given to any transformation or stored elsewhere.

    Class keywords: `is_abstract=True` forbids instances; `strict=` is accepted for compatibility; others go to
    `__init_subclass__`.

    Raises:
      TypeError: On construction, if the class is abstract or a field is left without a value.
      dataclasses.FrozenInstanceError: On assignment outside of `__init__`, or to a name that is not a field.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> class Affine(Module):
      ...     weight: jax.Array
      ...     bias: jax.Array
      ...
      ...     def __call__(self, x):
      ...         return self.weight * x + self.bias
      >>> affine = Affine(jnp.array(2.0), jnp.array(1.0))
      >>> print(jax.jit(lambda f, x: f(x))(affine, 3.0))
      7.0
      >>> jax.tree.map(lambda x: x * 2, affine)
      Affine(weight=weak_f32[], bias=weak_f32[])

    Source: Kidger and Garcia (2021), arXiv:2111.00254.
    """

    if not TYPE_CHECKING:  # A type checker is to refuse attributes that the class does not declare.
        __setattr__ = assign_field

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(
            f"cannot delete field {name!r} of `{type(self).__qualname__}`: Modules are immutable. "
            f"Make a changed copy with `eqx.tree_at` instead, for example with None in its place."
        )

    def __setstate__(self, state: Any) -> None:
        own, slots = state if isinstance(state, tuple) else (state, None)
        vars(self).update(own or {})
        for name, value in (slots or {}).items():
            object.__setattr__(self, name, value)
        node = type(self).__module_plan__.node
        if not self.__dict__.keys().isdisjoint(WRAPPER_NAMES):
            node.take_care(Care.GENERAL)
        elif not all(type(self.__dict__.get(name)) in ATOMS for name in node.statics):
            node.take_care(Care.TYPED)

    def __hash__(self) -> int:
        leaves, treedef = jtu.tree_flatten(self)
        try:
            return hash((treedef, *leaves))
        except TypeError:
            raise TypeError(_unhashable(self)) from None

    def __eq__(self, other: object) -> Any:
        return isinstance(other, Module) and tree_equal(self, other)

    def __repr__(self) -> str:
        from .._tree_pformat import tree_pformat  # The printer is loaded when something is to be shown.

        return tree_pformat(self)


def _unhashable(module: Module) -> str:
    for path, leaf in jtu.tree_flatten_with_path(module)[0]:
        try:
            hash(leaf)
        except TypeError:
            return (
                f"unhashable type: `{type(module).__qualname__}{jtu.keystr(path)}` is of type "
                f"`{type(leaf).__module__}.{type(leaf).__qualname__}`, and a Module is hashed with its leaves. "
                f"To compile a call of it, write `eqx.filter_jit(model)`. To pass it to `jax.jit` as a static argument, "
                f"pass `eqx.partition(model, eqx.is_array)[1]`."
            )
    return f"unhashable type: `{type(module).__qualname__}`"
