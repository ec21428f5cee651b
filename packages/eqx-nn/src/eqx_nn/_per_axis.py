"""Spell out per spatial axis what layers accept in short: kernel sizes, strides, paddings."""

from collections.abc import Sequence
from typing import Any

Pairs = tuple[tuple[int, int], ...]


def per_axis(value: int | Sequence[int], axes: int, argument: str) -> tuple[int, ...]:
    """Return one integer for each of `axes` axes.

    Args:
      argument: What an error calls it, such as "Conv(stride=...)".

    Raises:
      ValueError: It is neither an integer nor a sequence of as many integers as there are axes.
    """
    if _is_int(value):
        return (int(value),) * axes  # pyright: ignore[reportArgumentType]
    if not isinstance(value, str) and isinstance(value, Sequence) and len(value) == axes and all(map(_is_int, value)):
        return tuple(map(int, value))
    raise ValueError(
        f"`{argument}` must be an integer, or a sequence of {axes} integers, one for each spatial axis; got {value!r}. "
        f"Give a single integer to use it for every axis."
    )


def padding_per_axis(value: Any, axes: int, argument: str) -> Pairs:
    """Return the padding before and after, for each of `axes` axes.

    Raises:
      ValueError: It is neither an integer nor a sequence of as many integers, or pairs of them, as there are axes.
    """
    if _is_int(value):
        return ((int(value),) * 2,) * axes  # pyright: ignore[reportReturnType]
    if not isinstance(value, str) and isinstance(value, Sequence) and len(value) == axes:
        pairs = [(item, item) if _is_int(item) else item for item in value]
        if all(isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_int, pair)) for pair in pairs):
            return tuple((int(low), int(high)) for low, high in pairs)
    raise ValueError(
        f"`{argument}` must be an integer, or a sequence of {axes} integers or pairs `(before, after)`, one for each "
        f"spatial axis; got {value!r}. Give a single integer to use it everywhere."
    )


def _is_int(value: Any) -> bool:
    return hasattr(value, "__index__") and not getattr(value, "shape", ())
