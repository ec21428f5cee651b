"""Number the attributes of a class: `ContainerMeta`, an old kind of enumeration kept for compatibility."""

from typing import Any


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


class ContainerMeta(type):
    """Make each attribute of a class an integer, counted from 0, by which the class gives back the attribute's value.

    A subclass goes on counting where its parent stops.

    Raises:
      TypeError: Two of the bases are numbered already.

    Example:
      >>> from eqx_core.internal import ContainerMeta
      >>> class Results(metaclass=ContainerMeta):
      ...     successful = ""
      ...     diverged = "The solver diverged."
      >>> Results.diverged, Results[Results.diverged], len(Results)
      (1, 'The solver diverged.', 2)
    """

    reverse_lookup: list[Any]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> "ContainerMeta":
        parents = [base for base in bases if isinstance(base, ContainerMeta)]
        if len(parents) > 1:
            raise TypeError(
                f"`ContainerMeta(bases=...)` must hold at most one class that is numbered already; got "
                f"{[parent.__name__ for parent in parents]}, whose numbers clash. Inherit from one after the other."
            )
        values = list(parents[0].reverse_lookup) if parents else []
        numbered = {}
        for key, value in namespace.items():
            if _is_dunder(key):
                numbered[key] = value
            else:
                numbered[key] = len(values)
                values.append(value)
        return super().__new__(mcs, name, bases, numbered | {"reverse_lookup": values}, **kwargs)

    def __getitem__(cls, item: int) -> Any:
        return cls.reverse_lookup[item]

    def __len__(cls) -> int:
        return len(cls.reverse_lookup)
