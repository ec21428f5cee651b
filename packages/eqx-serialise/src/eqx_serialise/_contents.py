"""What a checkpoint holds, as a mapping that prints as a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._checkpoint_error import CheckpointError
from ._header import VERSION, Tensor
from ._python_values import value_text
from ._read import Checkpoint
from ._shown import shown
from ._stored_leaves import stored_leaves, tensor_spec
from ._structure import Node

_DIGEST = 8  # Letters of a digest to print: enough to see that two differ.


@dataclass(frozen=True)
class StoredLeaf:
    """One leaf in a checkpoint.

    Attributes:
      dtype: The dtype of an array, for example `float32` or `key<threefry2x32>`; the type of a Python value, for example `float`.
      shape: The shape of an array, None for a Python value.
      size: Bytes in the file, 0 for a Python value, which is in the header.
      start: Where in the file the bytes start, None for a Python value.
      digest: XXH3-128 of the bytes, in hexadecimal; empty for a Python value.
      value: The Python value, None for an array.
    """

    dtype: str
    shape: tuple[int, ...] | None
    size: int
    start: int | None
    digest: str
    value: Any = None


class Contents(Mapping[str, StoredLeaf]):
    """What a checkpoint holds: a mapping from names to `StoredLeaf`, which prints as a table.

    Attributes:
      file: What errors call the file.
      version: The version of the format.
      metadata: The words given to `save`.
      classes: The class of each node of the saved tree and its schema, by the name of the node.
      static: Static values of the saved tree by name, as JSON says them.
    """

    def __init__(self, checkpoint: Checkpoint):
        self.file = checkpoint.source.name
        self.version = VERSION
        self.metadata = checkpoint.header.metadata
        self.classes: dict[str, Node] = checkpoint.header.structure.nodes
        self.static: dict[str, Any] = checkpoint.header.structure.static
        self._leaves = {name: _stored(leaf, checkpoint) for name, leaf in stored_leaves(checkpoint).items()}

    def __getitem__(self, name: str) -> StoredLeaf:
        return self._leaves[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    def __repr__(self) -> str:
        rows = [("path", "dtype", "shape", "bytes", "xxh3_128")]
        rows += [_row(name, leaf) for name, leaf in self.items()]
        lines = [f"{self.file}: {len(self)} leaves, {sum(leaf.size for leaf in self.values()):,} bytes", *_table(rows)]
        lines += [f"{shown(key)}: {shown(value)}" for key, value in self.metadata.items()]
        return "\n".join(lines)


def _stored(leaf: Any, checkpoint: Checkpoint) -> StoredLeaf:
    if not isinstance(leaf, Tensor):
        return StoredLeaf(type(leaf).__name__, None, 0, None, "", leaf)
    try:
        shape = tensor_spec(leaf, checkpoint.source.call).shape
    except CheckpointError:
        shape = leaf.shape  # Keys that this JAX does not know: those of the numbers they are made of.
    return StoredLeaf(leaf.dtype, shape, leaf.stop - leaf.start, checkpoint.start + leaf.start, leaf.digest)


def _row(name: str, leaf: StoredLeaf) -> tuple[str, ...]:
    if leaf.shape is None:
        return shown(name), leaf.dtype, f"= {shown(value_text(leaf.value))}", "", ""
    return shown(name), shown(leaf.dtype), str(leaf.shape), f"{leaf.size:,}", shown(leaf.digest[:_DIGEST])


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(w) if i == 3 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
