"""Say how two checkpoints differ."""

import os
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import eqx_core

from ._header import Tensor
from ._opened import opened
from ._read import Checkpoint, open_checkpoint
from ._shown import shown
from ._spec import ArraySpec, ScalarSpec
from ._static_values import description_text
from ._stored_leaves import read_leaves, spec_in_file, stored_leaves

_PathOrFile = str | os.PathLike[str] | IO[bytes]


class FileDifference(NamedTuple):
    """One difference between two checkpoints.

    Attributes:
      path: The name of a leaf, a node or a static value; the key of a word in the metadata.
      kind: "leaf" (in one file only, or of another kind, shape or dtype), "value", "static", "class" or "metadata".
      message: What was, and what it became.
    """

    path: str
    kind: str
    message: str


class FileDiff(tuple[FileDifference, ...]):
    """What `diff` returns: a tuple of `FileDifference`s, empty and so false if the checkpoints hold the same."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(f"{shown(path)}  {kind}  {message}" for path, kind, message in self) or "The same is in both."


def diff(a: _PathOrFile, b: _PathOrFile) -> FileDiff:
    """Return how two checkpoints differ: leaves by name, static values, classes, metadata.

    The digests in the headers are compared, so that only leaves that differ are read. `verify` says
    whether the others are what was written.

    Args:
      a: A path, or a binary file that can seek.
      b: Likewise, and another one.

    Returns:
      A tuple of differences that prints one to a line; empty if there are none.

    Raises:
      CheckpointError: A file is no checkpoint, or what was read of it has changed.
      OSError: A file cannot be read.

    Example:
      >>> import io
      >>> one, other = io.BytesIO(), io.BytesIO()
      >>> eqx_serialise.save(one, {"rate": 0.5, "weight": jnp.zeros(3)})
      >>> eqx_serialise.save(other, {"rate": 0.5, "weight": jnp.ones(3)})
      >>> _ = one.seek(0), other.seek(0)
      >>> eqx_serialise.diff(one, other)
      ['weight']  value  3 of 3 elements: at most 1 apart, relative inf, at [0]
    """
    with opened(a, "diff", "a") as before, opened(b, "diff", "b") as after:
        return FileDiff(_differences(open_checkpoint(before, verify=True), open_checkpoint(after, verify=True)))


def _differences(a: Checkpoint, b: Checkpoint) -> Iterator[FileDifference]:
    mine, theirs = stored_leaves(a), stored_leaves(b)
    for name in mine | theirs:
        if name not in theirs:
            yield FileDifference(name, "leaf", f"{_spec(a, mine[name])} is in the first file only")
        elif name not in mine:
            yield FileDifference(name, "leaf", f"{_spec(b, theirs[name])} is in the second file only")
        elif _spec(a, mine[name]) != _spec(b, theirs[name]):
            yield FileDifference(name, "leaf", f"{_spec(a, mine[name])} became {_spec(b, theirs[name])}")
        elif not _is_same(a, b, name, mine[name], theirs[name]):
            values = (
                read_leaves(file, {name: leaf}, verify=True) for file, leaf in ((a, mine[name]), (b, theirs[name]))
            )
            found = eqx_core.tree_diff(*values)
            yield FileDifference(name, "value", found[0].message if found else "equal numbers in other bits")
    ours, others = a.header.structure, b.header.structure
    # Where leaves are in one file only, so are the nodes above them; no need to say it twice.
    everywhere = mine.keys() == theirs.keys()
    yield from _changed("static", _texts(ours.static), _texts(others.static), everywhere)
    yield from _changed("class", _classes(ours.nodes), _classes(others.nodes), everywhere)
    yield from _changed("metadata", a.header.metadata, b.header.metadata, True)


def _spec(checkpoint: Checkpoint, leaf: Any) -> ArraySpec | ScalarSpec:
    return spec_in_file(leaf, checkpoint.source.call)


def _is_same(a: Checkpoint, b: Checkpoint, name: str, mine: Any, theirs: Any) -> bool:
    if isinstance(mine, Tensor):
        return mine.digest == theirs.digest
    # As they are written, which tells -0.0 from 0.0.
    return a.header.values[name] == b.header.values[name]


def _texts(static: dict[str, Any]) -> dict[str, str]:
    return {name: description_text(value) for name, value in static.items()}


def _classes(nodes: dict[str, Any]) -> dict[str, str]:
    return {name: node.cls if node.schema == 1 else f"{node.cls}, schema {node.schema}" for name, node in nodes.items()}


def _changed(kind: str, mine: dict[str, str], theirs: dict[str, str], everywhere: bool) -> Iterator[FileDifference]:
    """Yield what differs; what is in one file only just if `everywhere`."""
    for name in mine | theirs:
        before, after = mine.get(name, "(nothing)"), theirs.get(name, "(nothing)")
        if before != after and (everywhere or (name in mine and name in theirs)):
            yield FileDifference(name, kind, f"{shown(before)} became {shown(after)}")
