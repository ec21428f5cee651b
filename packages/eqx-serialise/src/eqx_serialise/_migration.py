"""Declare how the leaves of an older version of a class become those of the next."""

from collections.abc import Callable
from typing import Any


class Migration:
    """What `migration` makes of a method; calling it runs the method, with the class in which it is written."""

    def __init__(self, function: Any, old: int, new: int):
        self.function = function
        self.old = old
        self.new = new
        self._owner: type | None = None
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner

    def __call__(self, leaves: dict[str, Any]) -> dict[str, Any]:
        """Return the leaves as the next version of the class has them."""
        return self.of(self._owner)(leaves)

    def of(self, cls: type | None) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """Return the function to call for `cls`: a class method gets to know it."""
        return self.function.__get__(None, cls)


def migration(old: int, new: int) -> Callable[[Any], Migration]:
    """Return a decorator for the method of a class that turns its leaves of schema `old` into those of schema `new`.

    A class says which schema it has by `__schema__ = 2`; without that it is 1. `save` writes it
    down, and `load` calls for each older part of a file the methods that lead to the present one,
    in order. The methods of a class that has been inherited count too.

    The method takes and returns a dictionary. Keys are paths within the instance, such as
    `layers[0].weight`; leaves are NumPy arrays, arrays of PRNG keys, and Python values. Instances
    inside have been migrated before, so their leaves have the names of today.

    Args:
      old: The schema that a file has, at least 1.
      new: The schema that the returned leaves have, above `old`.

    Raises:
      ValueError: `old` is below 1, or `new` not above it.

    Example:
      >>> import io
      >>> import eqx_core
      >>> class Scale(eqx_core.Module):
      ...     by: jax.Array
      >>> file = io.BytesIO()
      >>> eqx_serialise.save(file, Scale(jnp.array([2.0])))
      >>> class Scale(eqx_core.Module):
      ...     __schema__ = 2
      ...     log_scale: jax.Array
      ...
      ...     @eqx_serialise.migration(1, 2)
      ...     @staticmethod
      ...     def _to_logarithms(leaves):
      ...         return {"log_scale": np.log(leaves["by"])}
      >>> _ = file.seek(0)
      >>> eqx_serialise.load(file, Scale(jnp.zeros(1))).log_scale
      Array([0.6931472], dtype=float32)
    """
    if not all(type(schema) is int for schema in (old, new)) or not 1 <= old < new:
        raise ValueError(
            f"`migration(old, new)` must lead from a schema of at least 1 to a higher one; got {old!r:.40} and "
            f"{new!r:.40}. Write `@migration(1, 2)` above the method that makes version 2 out of version 1."
        )
    return lambda function: Migration(function, old, new)


def migrations_of(cls: type) -> dict[int, Migration]:
    """Return the migrations of a class and those that it inherits, by the schema they start from.

    Of several that start from one, the one that leads furthest without passing the class's schema.
    """
    found: dict[int, Migration] = {}
    limit = getattr(cls, "__schema__", 1)
    for base in reversed(cls.__mro__):
        for value in vars(base).values():
            step = _as_migration(value)
            if step is not None and step.new <= limit and (step.old not in found or step.new >= found[step.old].new):
                found[step.old] = step
    return found


def _as_migration(value: Any) -> Migration | None:
    # `@staticmethod` may also stand above `@migration`.
    if isinstance(value, (staticmethod, classmethod)) and isinstance(value.__func__, Migration):
        step = value.__func__
        return Migration(type(value)(step.function), step.old, step.new)
    return value if isinstance(value, Migration) else None
