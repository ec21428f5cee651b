"""Reckon how much memory it takes to parse a header, before it is parsed: a forged one may be all brackets."""

import re

from ._checkpoint_error import CheckpointError

_SPARE = 64_000_000  # Bytes of memory that reading a header may take beyond the size of the file.
_PART = 4_000  # Bytes that each leaf, node and static value of `like` adds to that.

# Bytes that Python takes at most for what each mark stands for: an item of a list or of an object, a
# key with its entry, a list, an object; and for a tensor besides its numbers.
LETTER = 4
_WIDE_LETTER = 10
_ITEM = 60
_COSTS = {b":": 160, b"[": 60, b"{": 120}
_TENSOR_COST = 100

# A tensor as every writer of safetensors describes it. Its parts do not outlive the parsing of it.
_TENSOR = re.compile(rb'\{"dtype":"[A-Z0-9_]+","shape":\[[0-9,]*\],"data_offsets":\[[0-9]+,[0-9]+\]\}')


def room(size: int, parts: int) -> int:
    """Return how many bytes of memory the header of a file may take.

    Args:
      size: Bytes of the file.
      parts: Leaves, nodes and static values that are asked for.
    """
    return _SPARE + size + _PART * parts


def memory(text: bytes) -> int:
    """Return about the most bytes of memory that it takes to parse `text`, itself among them."""
    rest, tensors = _TENSOR.subn(b"", text)
    parts = text.count(b",") * _ITEM + sum(rest.count(mark) * cost for mark, cost in _COSTS.items())
    # A letter beyond ASCII makes every letter of a Python string wider.
    return len(text) * (LETTER if text.isascii() else _WIDE_LETTER) + parts + _TENSOR_COST * tensors


def check_memory(needed: int, allowed: int, call: str) -> None:
    """Raise an error if a header would take more bytes of memory than it may.

    Args:
      call: What errors call the reading of the file, for example `load(path_or_file='model')`.

    Raises:
      CheckpointError: It would.
    """
    if needed > allowed:
        raise CheckpointError(
            f"`{call}` must have a header that takes at most {allowed} bytes of memory; got one of so many parts that "
            f"it may take {needed}. If you trust the file, `load` it into a `like` of as many leaves."
        )
