"""Declare a field of a Module: `field`, the deprecated `static_field`, and how its metadata is read."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

_CONVERTER = "converter"
_STATIC = "static"


def field(*, converter: Callable[[Any], Any] | None = None, static: bool = False, **kwargs: Any) -> Any:
    """Declare how one field of a Module behaves.

    Args:
      converter: A function that is called once with the field's value, at the end of construction: after `__init__`
        and `__post_init__`, on defaults too. It is not called again when the Module is unflattened.
      static: True to make the value part of the PyTree's structure instead of a child. Static values are compared by
        `==` and by type. They must not be arrays.
      **kwargs: Passed on to `dataclasses.field` (`default`, `default_factory`, `init`, `kw_only`, `metadata`, ...).

    Returns:
      What `dataclasses.field` returns.

    Raises:
      ValueError: `metadata` already holds one of the keys "converter" and "static".

    Example:
      >>> from eqx_core import Module
      >>> class Scale(Module):
      ...     by: float = field(converter=float)
      ...     name: str = field(static=True)
      >>> Scale(2, "scale")
      Scale(by=2.0, name='scale')
    """
    metadata = dict(kwargs.pop("metadata", None) or {})
    for key in (_CONVERTER, _STATIC):
        if key in metadata:
            raise ValueError(
                f"`field(metadata=...)` must not hold the key {key!r}, which is set by `field({key}=...)`; "
                f"got {metadata[key]!r}. Write `field({key}=...)` instead."
            )
    if converter is not None:
        metadata[_CONVERTER] = converter
    if static:
        metadata[_STATIC] = True
    return dataclasses.field(metadata=metadata, **kwargs)


def static_field(**kwargs: Any) -> Any:
    """Declare a static field: the old spelling of `field(static=True, ...)`, deprecated.

    Example:
      >>> import warnings
      >>> with warnings.catch_warnings():
      ...     warnings.simplefilter("ignore")
      ...     static_field(default=1).default
      1
    """
    warnings.warn(
        "`static_field` is deprecated in favour of `field(static=True)`.",
        DeprecationWarning,
        stacklevel=2,
    )
    return field(static=True, **kwargs)


def is_static(declared: dataclasses.Field) -> bool:
    """Return whether a dataclass field is part of the structure rather than a child."""
    return bool(declared.metadata.get(_STATIC, False))


def converter_of(declared: dataclasses.Field) -> Callable[[Any], Any] | None:
    """Return the converter of a dataclass field, or None."""
    return declared.metadata.get(_CONVERTER)
