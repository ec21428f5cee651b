"""Say what a failed check found: its message for each entry of a batch that failed, with values in it."""

import string
from collections.abc import Callable, Sequence
from typing import Any

import jax.tree_util as jtu
import numpy as np

_MOST_ENTRIES = 100
_MOST_ELEMENTS = 64


def verify_template(msgs: Sequence[str], values: dict[str, Any]) -> None:
    """Raise ValueError if one of the messages asks for a value that there is not."""
    for msg in msgs if values else ():
        for _, name, _, _ in string.Formatter().parse(msg):
            if name is not None and name.split(".")[0].split("[")[0] not in values:
                raise ValueError(
                    f"`error_if(msg=...)` must name only values that are given; got {{{name}}} beside the values "
                    f"{', '.join(map(repr, values))}. Pass it by keyword, or double the braces to have them literally."
                )


def message(msgs: Sequence[str], index: int, values: dict[str, Any]) -> str:
    """Return the message of that index, with the values filled in if there are any."""
    if not 0 <= index < len(msgs):
        return f"An error of index {index}, for which `branched_error_if(msgs=...)` has no message."
    return msgs[index].format(**jtu.tree_map(_shown, values)) if values else msgs[index]


def batch_message(
    msgs: Sequence[str],
    levels: Sequence[tuple[bool, ...]],
    conditions: Sequence[Any],
    fill: Callable[[list[Any]], dict[str, Any]],
) -> str:
    """Return the messages of the entries of a batch that failed, one below the other.

    Args:
      msgs: The messages, by index.
      levels: For each mapped axis, outermost first, which of the conditions have it. They come first among their axes.
      conditions: Whether the check failed, the index of the message, and the arrays among the values.
      fill: Makes the values from the arrays among them.
    """
    columns = list(zip(*levels, strict=True)) or [()] * len(conditions)
    sizes = _sizes(columns, conditions)
    spread = [_spread(np.asarray(c), column, sizes) for c, column in zip(conditions, columns, strict=True)]
    pred, indices, *values = spread
    entries = [tuple(map(int, entry)) for entry in np.argwhere(pred)]
    texts = []
    for entry in entries[:_MOST_ENTRIES]:
        text = message(msgs, int(indices[entry]), fill([value[entry] for value in values]))
        texts.append(f"Batch index {entry} had error:\n{text}" if entry else text)
    if len(entries) > _MOST_ENTRIES:
        texts.append(f"{len(entries) - _MOST_ENTRIES} more entries of the batch had errors.")
    return "\n\n".join(texts)


def _sizes(columns: Sequence[tuple[bool, ...]], conditions: Sequence[Any]) -> list[int]:
    """Return the lengths of the mapped axes."""
    sizes = [1] * len(columns[0])
    for column, condition in zip(columns, conditions, strict=True):
        own = (level for level, has in enumerate(column) if has)
        for axis, level in enumerate(own):
            sizes[level] = condition.shape[axis]
    return sizes


def _spread(condition: np.ndarray, column: tuple[bool, ...], sizes: list[int]) -> np.ndarray:
    """Return a condition with all mapped axes."""
    own = [size if has else 1 for size, has in zip(sizes, column, strict=True)]
    shape = condition.shape[sum(column) :]
    return np.broadcast_to(condition.reshape((*own, *shape)), (*sizes, *shape))


def _shown(value: Any) -> Any:
    """Return what to format in the place of a value: a number, or the text of an array, in short if it is large."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    if value.ndim == 0:
        return value.item()
    if value.size > _MOST_ELEMENTS:
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    return np.array2string(value, separator=", ")
