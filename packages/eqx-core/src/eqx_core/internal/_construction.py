"""Construct a Module without calling its class, for metaclasses that do so in their own way."""

from .._module import Module
from .._module._init import UNDER_CONSTRUCTION


def begin_construction(instance: Module) -> None:
    """Let the fields of `instance` be assigned from now on, as while its `__init__` runs.

    Args:
      instance: What `__new__` has returned. Keep it alive until `end_construction`.

    Example:
      >>> from eqx_core.internal import begin_construction, end_construction
      >>> class Point(eqx_core.Module):
      ...     x: int
      >>> point = Point.__new__(Point)
      >>> begin_construction(point)
      >>> point.x = 1
      >>> end_construction(point)
      >>> point
      Point(x=1)
    """
    UNDER_CONSTRUCTION[id(instance)] = type(instance).__module_plan__.plain


def end_construction(instance: Module) -> None:
    """Freeze `instance` again, after `begin_construction`. Converters and checks are the caller's business.

    Raises:
      KeyError: `instance` is not under construction.

    Example:
      See `begin_construction`.
    """
    del UNDER_CONSTRUCTION[id(instance)]
    # Without new values this only takes note of the ones that need care when the instance is flattened.
    instance.__setstate__({})
