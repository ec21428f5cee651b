"""Show what a model is made of: `tree_summary`, a table of its arrays by key path."""

import dataclasses
import html
import importlib
import importlib.util
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._is_array import is_array
from ._keyed_children import keyed_children
from ._text_table import text_table

_HEADER = ("path", "class", "leaf", "shape", "dtype", "parameters", "bytes", "")
_RIGHT = (5, 6)


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """One leaf, or all leaves below a node at the greatest depth shown.

    Attributes:
      path: Where the node is that owns the leaf.
      owner: The name of that node's class.
      leaf: The path from the owner to the leaf, or how many leaves there are.
      shape: The leaf's shape, or None if it is not an array.
      dtype: The leaf's dtype, or its class if it is not an array.
      parameters: How many numbers it holds. An array that was counted before counts 0.
      nbytes: Bytes of these numbers, over all devices.
      note: The sharding of an array that is committed to devices, or which leaf it is the same array as.
    """

    path: str
    owner: str
    leaf: str
    shape: tuple[int, ...] | None
    dtype: str
    parameters: int
    nbytes: int
    note: str


@dataclasses.dataclass(frozen=True)
class Total:
    """How much there is of one kind of leaf: `parameters` numbers in `nbytes` bytes."""

    parameters: int
    nbytes: int


@dataclasses.dataclass(frozen=True)
class TreeSummary:
    """What `tree_summary` returns: `print` it, or look at its rows.

    Attributes:
      rows: A row per leaf, in the order of the tree.
      trainable: The total of the arrays of floating or complex dtype.
      other: The total of the other arrays.
    """

    rows: tuple[SummaryRow, ...]
    trainable: Total
    other: Total

    def __str__(self) -> str:
        lines = text_table([_HEADER, *self._cells()], right=_RIGHT)
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], *self._totals()])

    def __repr__(self) -> str:
        return str(self)

    def _cells(self) -> Iterator[tuple[str, ...]]:
        previous = None
        for row in self.rows:
            node = (row.path or "(root)", row.owner)
            shape = "" if row.shape is None else str(row.shape)
            size = (f"{row.parameters:,}", _bytes(row.nbytes))
            yield (*(("", "") if node == previous else node), row.leaf, shape, row.dtype, *size, row.note)
            previous = node

    def _totals(self) -> list[str]:
        totals = [("trainable", self.trainable), ("other", self.other)]
        cells = [(name, f"{t.parameters:,}", "parameters", _bytes(t.nbytes)) for name, t in totals]
        return ["", *text_table(cells, right=(1, 3))]

    def _nested(self) -> dict[str, Any]:
        """Nest the rows for a viewer that folds dictionaries."""
        nested: dict[str, Any] = {}
        for row in self.rows:
            node = nested.setdefault(f"{row.path or '(root)'}: {row.owner}", {})
            cells = (row.shape, row.dtype, f"{row.parameters:,} parameters", _bytes(row.nbytes), row.note)
            node[row.leaf] = ", ".join(str(cell) for cell in cells if cell not in (None, ""))
        return nested | {"totals": [line for line in self._totals() if line]}

    def __treescope_repr__(self, path: str | None, subtree_renderer: Callable[..., Any]) -> Any:
        return subtree_renderer(self._nested(), path=path)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{cell}</th>" for cell in _HEADER)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>" for cells in self._cells()
        )
        totals = "\n".join(self._totals()).strip()
        return f"<table><tr>{head}</tr>{body}</table><pre>{totals}</pre>"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        # What a notebook asks first, and treescope not at all: it would show this inside of its own tree.
        if importlib.util.find_spec("treescope"):
            page = importlib.import_module("treescope").render_to_html(self._nested())
        else:
            page = self._repr_html_()
        return {"text/plain": str(self), "text/html": page}


def tree_summary(tree: Any, *, depth: int | None = None) -> TreeSummary:
    """Return a table of the leaves of `tree`: where they are, of which shape and dtype, and how much they weigh.

    Leaves are listed below the Module or other node that owns them; lists and tuples count as a part of their owner. An
    array that occurs twice is counted once, and its second row says so.

    Args:
      tree: Any PyTree. `jax.ShapeDtypeStruct`s count as the arrays that they describe.
      depth: How many keys deep to look, at least 0. A node at that depth is one row with the sum of its leaves. None to show
        every leaf.

    Returns:
      An object whose `str` is the table and whose attributes are its numbers. It keeps no array alive. Notebooks show a
      tree to browse if treescope is installed, a table otherwise.

    Raises:
      ValueError: `depth` is negative.

    Example:
      >>> print(tree_summary({"a": {"w": jnp.zeros((3, 2)), "n": jnp.zeros(3, int)}, "b": "text"}))
      path    class  leaf   shape   dtype    parameters  bytes
      --------------------------------------------------------
      ['a']   dict   ['n']  (3,)    int32             3   12 B
                     ['w']  (3, 2)  float32           6   24 B
      (root)  dict   ['b']          str               0    0 B
      <BLANKLINE>
      trainable  6  parameters  24 B
      other      3  parameters  12 B
    """
    if depth is not None and depth < 0:
        raise ValueError(f"`tree_summary(depth=...)` must be at least 0; got {depth}. Leave it out to show every leaf.")
    leaves = list(_leaves(tree, (), (), 0))
    first: dict[int, str] = {}
    measured = [(leaf, _measure(leaf, first)) for leaf in leaves]
    trainable = [m.total for _, m in measured if m.trainable]
    other = [m.total for _, m in measured if not m.trainable]
    return TreeSummary(tuple(_rows(measured, depth)), _sum(trainable), _sum(other))


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """A leaf, the keys that lead to it, the classes of the nodes above it, and how many keys lead to its owner."""

    value: Any
    keys: jtu.KeyPath
    classes: tuple[str, ...]
    owner: int


@dataclasses.dataclass(frozen=True)
class _Measured:
    shape: tuple[int, ...] | None
    dtype: str
    total: Total
    trainable: bool
    note: str


def _leaves(node: Any, keys: jtu.KeyPath, classes: tuple[str, ...], owner: int) -> Iterator[_Leaf]:
    children = keyed_children(node)
    if children is None:
        yield _Leaf(node, keys, classes, owner)
        return
    if type(node) not in (list, tuple):
        owner = len(keys)
    for key, child in children:
        yield from _leaves(child, (*keys, key), (*classes, type(node).__name__), owner)


def _rows(measured: list[tuple[_Leaf, _Measured]], depth: int | None) -> Iterator[SummaryRow]:
    def below(pair: tuple[_Leaf, _Measured]) -> jtu.KeyPath | None:
        leaf, _ = pair
        alone = depth is None or leaf.owner < depth or not leaf.keys
        return None if alone else leaf.keys[:depth]

    for prefix, pairs in itertools.groupby(measured, key=below):
        group = list(pairs)
        if prefix is None:
            yield from (_row(leaf, m) for leaf, m in group)
        else:
            total = _sum([m.total for _, m in group])
            name = group[0][0].classes[len(prefix)]
            count = f"{len(group)} leaves" if len(group) > 1 else "1 leaf"
            yield SummaryRow(jtu.keystr(prefix), name, count, None, "", total.parameters, total.nbytes, "")


def _row(leaf: _Leaf, measured: _Measured) -> SummaryRow:
    owner = leaf.classes[leaf.owner] if leaf.classes else ""
    return SummaryRow(
        path=jtu.keystr(leaf.keys[: leaf.owner]),
        owner=owner,
        leaf=jtu.keystr(leaf.keys[leaf.owner :]),
        shape=measured.shape,
        dtype=measured.dtype,
        parameters=measured.total.parameters,
        nbytes=measured.total.nbytes,
        note=measured.note,
    )


def _measure(leaf: _Leaf, first: dict[int, str]) -> _Measured:
    """Look at one leaf; `first` remembers by identity where each array was seen first."""
    value = leaf.value
    if not (is_array(value) or isinstance(value, jax.ShapeDtypeStruct)):
        return _Measured(None, type(value).__name__, Total(0, 0), False, "")
    size = math.prod(value.shape)
    total, note = Total(size, math.ceil(size * _bits(value.dtype) / 8)), _placement(value)
    if isinstance(value, (jax.Array, np.ndarray)):
        here = jtu.keystr(leaf.keys)
        before = first.setdefault(id(value), here)
        if before != here:
            total, note = Total(0, 0), f"same array as {before}"
    return _Measured(tuple(value.shape), str(value.dtype), total, bool(jnp.issubdtype(value.dtype, jnp.inexact)), note)


def _bits(dtype: Any) -> int:
    # Two int4 share one byte, and NumPy's `itemsize` does not know.
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.iinfo(dtype).bits
    return dtype.itemsize * 8


def _placement(value: Any) -> str:
    """Describe where an array has to stay; empty if JAX may move it."""
    if isinstance(value, jax.core.Tracer) or not getattr(value, "committed", True):
        return ""
    sharding = getattr(value, "sharding", None)
    if sharding is None:
        return ""
    if isinstance(sharding, jax.sharding.NamedSharding):
        axes = ", ".join(f"{name}={size}" for name, size in sharding.mesh.shape.items())
        return f"{sharding.spec} on ({axes})"
    devices = sorted(map(str, sharding.device_set))
    return ", ".join(devices) if len(devices) <= 2 else f"{len(devices)} devices"


def _sum(totals: list[Total]) -> Total:
    return Total(sum(t.parameters for t in totals), sum(t.nbytes for t in totals))


def _bytes(count: int) -> str:
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{count} B" if units[0] == "B" else f"{size:.1f} {units[0]}"
