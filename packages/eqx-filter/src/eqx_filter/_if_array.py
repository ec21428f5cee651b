"""Map over arrays and over nothing else: `if_array`."""

import dataclasses
from typing import Any

import eqx_core


@dataclasses.dataclass(frozen=True, slots=True)
class if_array:
    """Return a specification of axes which gives each array the same axis, and whatever is no array none.

    Two are equal if their axes are. It is a leaf, not a PyTree.

    Args:
      axis: The axis of an array; negative ones count from the end.

    Raises:
      TypeError: `axis` is not an int.

    Example:
      >>> if_array(1)(jnp.zeros((2, 3))), if_array(1)("text")
      (1, None)
    """

    axis: int

    def __post_init__(self) -> None:
        if type(self.axis) is not int:
            raise TypeError(
                f"`if_array(axis=...)` must be an int; got {self.axis!r}. To map over nothing, write None instead of "
                f"`if_array(...)`."
            )

    def __call__(self, leaf: Any) -> int | None:
        return self.axis if eqx_core.is_array(leaf) else None
