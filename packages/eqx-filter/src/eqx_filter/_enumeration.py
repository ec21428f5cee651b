"""Name a few results, with messages, such that which one it is may be computed in a program: `Enumeration`."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

import eqx_core

from ._error_if import branched_error_if
from ._jax_compat import hide_from_tracebacks

hide_from_tracebacks(__file__)

_RESERVED = ("promote", "where")


class EnumerationItem(eqx_core.Module):
    """One item of an `Enumeration`, or which one of them is known only when the program runs."""

    _value: Any
    _enumeration: "_EnumerationMeta" = eqx_core.field(static=True)

    def __eq__(self, other: object) -> Any:
        return _compared(self, other, np.equal, jnp.equal)

    def __ne__(self, other: object) -> Any:
        return _compared(self, other, np.not_equal, jnp.not_equal)

    # Whether two are equal may not be known yet.
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        enumeration = self._enumeration
        message = enumeration._message(self._value) or "unknown"
        return f"{enumeration.__module__}.{enumeration.__qualname__}<{message}>"

    __str__ = __repr__

    def is_traced(self) -> bool:
        """Tell whether which item it is will be known only when the program runs."""
        return isinstance(self._value, jax.core.Tracer)

    def error_if(self, token: Any, pred: Any) -> Any:
        """Return `token`, and raise an error with the message of the item when the program runs if `pred` is true.

        Args:
          token: As `x` of `error_if`.
          pred: As in `error_if`.

        Raises:
          EquinoxRuntimeError: As `error_if` does.
        """
        __tracebackhide__ = True
        return branched_error_if(token, pred, self._value, self._enumeration._messages)


def _compared(item: EnumerationItem, other: object, known: Any, traced: Any) -> Any:
    if not isinstance(other, EnumerationItem) or other._enumeration is not item._enumeration:
        raise ValueError(
            f"`{item._enumeration.__qualname__}` items must be compared with items of the same enumeration; got "
            f"{_kind(other)}. Bring it there by `promote` if it is of one that this inherits from."
        )
    a, b = item._value, other._value
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return traced(a, b)
    with jax.ensure_compile_time_eval():
        return jnp.asarray(known(np.asarray(a), np.asarray(b)))


def _kind(thing: object) -> str:
    return f"an item of `{thing._enumeration.__qualname__}`" if isinstance(thing, EnumerationItem) else f"{thing!r:.60}"


class _EnumerationMeta(type):
    """What the class of an enumeration itself can do."""

    _names: tuple[str, ...]
    _messages: tuple[str, ...]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **kwargs: Any) -> Any:
        members = _checked_members(name, bases, namespace)
        others = {key: value for key, value in namespace.items() if key not in members}
        cls = super().__new__(mcs, name, bases, others, **kwargs)
        # The method resolution order is known only now.
        table: dict[str, str] = {}
        for base in cls.__mro__[1:]:
            if isinstance(base, _EnumerationMeta):
                _merge(table, dict(zip(base._names, base._messages, strict=True)), name)
        _merge(table, members, name)
        cls._names, cls._messages = tuple(table), tuple(table.values())
        for i, member in enumerate(table):
            setattr(cls, member, EnumerationItem(np.array(i, np.int32), cls))
        if cls.__doc__ is None or "__doc__" not in namespace:
            cls.__doc__ = "\n".join(
                ["An enumeration, with the entries:", "", *(f"- `{key}`: {text}" for key, text in table.items())]
            )
        return cls

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, EnumerationItem) and instance._enumeration is cls

    def __len__(cls) -> int:
        return len(cls._names)

    def __bool__(cls) -> bool:
        return True

    # Without it Python would iterate by means of `__getitem__`.
    __iter__ = None

    def __getitem__(cls, item: Any) -> str:
        if not isinstance(item, cls):
            raise ValueError(
                f"`{cls.__qualname__}[item]` must have one of its own items; got {_kind(item)}. "
                f"Write `{cls.__qualname__}[{cls.__qualname__}.{cls._names[0] if cls._names else 'name'}]`."
            )
        message = cls._message(item._value)
        if message is None:
            raise ValueError(
                f"`{cls.__qualname__}[item]` must have an item with a value below {len(cls)}; got {item._value}. "
                f"Make items by `{cls.__qualname__}.name`, `where` and `promote` alone."
            )
        return message

    def _message(cls, value: Any) -> str | None:
        """Return the message for the value of an item, or None if there is none."""
        if isinstance(value, jax.core.Tracer):
            return "traced"
        if not eqx_core.is_array(value):
            return "unknown"
        values = np.asarray(value)
        if values.size and not (values.min() >= 0 and values.max() < len(cls)):
            return None
        if values.ndim == 0:
            return cls._messages[int(values)]
        return str(np.array(cls._messages, object)[values])

    def where(cls, pred: Any, a: Any, b: Any) -> Any:
        """Return the item `a` where `pred` is true, otherwise `b`.

        Args:
          pred: A bool, or a boolean array of shape `()`.
          a: An item.
          b: An item.

        Raises:
          ValueError: `pred` is something else, or `a` or `b` no item of this very enumeration.
        """
        if not isinstance(pred, bool) and not (eqx_core.is_array(pred) and pred.shape == () and pred.dtype == bool):
            raise ValueError(
                f"`{cls.__qualname__}.where(pred=...)` must be a bool or a boolean array of shape `()`; got "
                f"`{eqx_core.tree_pformat(pred, width=60)}`. Reduce an array with `jnp.all` or `jnp.any`."
            )
        for name, item in (("a", a), ("b", b)):
            if not isinstance(item, cls):
                raise ValueError(
                    f"`{cls.__qualname__}.where({name}=...)` must be an item of `{cls.__qualname__}`; got {_kind(item)}. "
                    f"Bring it there by `promote` if it is of an enumeration that this inherits from."
                )
        if a._value is b._value:
            return a
        if not isinstance(pred, jax.core.Tracer):
            return a if pred else b
        return EnumerationItem(_chosen(pred, a._value, b._value), cls)

    def promote(cls, item: Any) -> Any:
        """Return the item of this enumeration that has the same name as an item of one that it inherits from.

        Args:
          item: An item of one of the bases.

        Raises:
          ValueError: It is something else.
        """
        base = item._enumeration if isinstance(item, EnumerationItem) else None
        if base is None or base is cls or not issubclass(cls, base):
            raise ValueError(
                f"`{cls.__qualname__}.promote(item=...)` must be an item of an enumeration that `{cls.__qualname__}` "
                f"inherits from; got {_kind(item)}. Items of `{cls.__qualname__}` itself need no promotion."
            )
        table = np.array([cls._names.index(name) for name in base._names], np.int32)
        traced = isinstance(item._value, jax.core.Tracer)
        value = jnp.asarray(table)[item._value] if traced else np.asarray(table[np.asarray(item._value)])
        return EnumerationItem(value, cls)


def _chosen(pred: Any, a: Any, b: Any) -> jax.Array:
    shape = np.broadcast_shapes(a.shape, b.shape)
    return jnp.where(pred, jnp.broadcast_to(a, shape), jnp.broadcast_to(b, shape))


def _checked_members(name: str, bases: Sequence[type], namespace: dict[str, Any]) -> dict[str, str]:
    """Return what of a class body are entries; ValueError if it is not the body of an enumeration."""
    for base in bases:
        if not isinstance(base, _EnumerationMeta):
            raise ValueError(
                f"`class {name}(...)` must have only enumerations for bases; got `{base.__qualname__}`. Inherit from "
                f"`Enumeration`, or an enumeration to be extended."
            )
    if not bases:
        return {}
    members = {key: value for key, value in namespace.items() if not (key.startswith("__") and key.endswith("__"))}
    for key, value in members.items():
        if key in _RESERVED:
            raise ValueError(
                f"`class {name}` must not have an entry of the name {key!r}; got {value!r:.60}. It is that of a method of "
                f"enumerations, so call the entry something else."
            )
        if not isinstance(value, str):
            raise ValueError(
                f"`class {name}` must have strings for entries; got `{key}` of type `{type(value).__qualname__}`. "
                f'Write `{key} = "a message"`.'
            )
    return members


def _merge(table: dict[str, str], members: dict[str, str], name: str) -> None:
    for key, message in members.items():
        if table.get(key, message) != message:
            warnings.warn(
                f"`{name}` gets two messages for `{key}`: {table[key]!r} and {message!r}. The latter is taken; rename one.",
                stacklevel=3,
            )
        table[key] = message


class Enumeration(metaclass=_EnumerationMeta):
    """Name a few results, each with a message; which of them it is may depend on arrays.

    Each class attribute, a string, becomes an item: a Module that may be compared, chosen by `where`, and returned from
    compiled functions and loops. It is an instance of the very class that it was written in. An enumeration that
    inherits from others has their items too, as items of its own, which `promote` finds.

    Raises:
      ValueError: An entry is no string, or is named `where` or `promote`; or a base is no enumeration.

    Example:
      >>> class Result(eqx_filter.Enumeration):
      ...     success = "it worked"
      ...     diverged = "it diverged; take smaller steps"
      >>> @jax.jit
      ... def judge(x):
      ...     return Result.where(jnp.isfinite(x), Result.success, Result.diverged)
      >>> result = judge(jnp.inf)
      >>> Result[result], bool(result == Result.diverged), isinstance(result, Result)
      ('it diverged; take smaller steps', True, True)
      >>> x = Result.success.error_if(jnp.ones(2), jnp.array(False))
    """
