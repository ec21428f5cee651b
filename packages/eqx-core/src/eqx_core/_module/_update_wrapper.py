"""Let a Module that wraps a callable carry the callable's name and documentation: `module_update_wrapper`."""

from typing import Any, TypeVar

import jax.tree_util as jtu

from ._flatten import WRAPPER_NAMES, Care
from ._module import Module

_Wrapper = TypeVar("_Wrapper", bound=Module)


def module_update_wrapper(wrapper: _Wrapper, wrapped: Any = None) -> _Wrapper:
    """Return a copy of a Module with the name, docstring and annotations of the callable that it wraps.

    It does for Modules what `functools.update_wrapper` does for functions. The attributes survive flattening, and are
    part of the PyTree's structure.

    Args:
      wrapper: A Module whose class defines `__wrapped__` as a property.
      wrapped: Where to take the attributes from; those that it lacks are left out. By default `wrapper.__wrapped__`.

    Raises:
      ValueError: The class does not define the property.

    Example:
      >>> class Twice(Module):
      ...     fn: object
      ...
      ...     @property
      ...     def __wrapped__(self):
      ...         return self.fn
      ...
      ...     def __call__(self, x):
      ...         return self.fn(self.fn(x))
      >>> module_update_wrapper(Twice(len)).__name__
      'len'
    """
    cls = type(wrapper)
    if not isinstance(getattr(cls, "__wrapped__", None), property):
        raise ValueError(
            f"`module_update_wrapper(wrapper=...)` must be a Module whose class has a property `__wrapped__`; got a "
            f"`{cls.__qualname__}`. Add to its body a property of that name that returns the wrapped callable."
        )
    wrapped = wrapper.__wrapped__ if wrapped is None else wrapped  # pyright: ignore[reportAttributeAccessIssue]
    leaves, treedef = jtu.tree_flatten(wrapper)
    copy = jtu.tree_unflatten(treedef, leaves)
    found = {name: getattr(wrapped, name) for name in WRAPPER_NAMES if hasattr(wrapped, name)}
    copy.__dict__.update(found)
    cls.__module_plan__.node.take_care(Care.GENERAL)
    return copy
