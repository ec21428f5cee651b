"""Lay out the usual kinds of objects quickly: the text is that of `wadler_lindig`, which is asked for everything else.

`wadler_lindig` makes a document of several objects for each array and measures its pieces again on each level. Here each
part is measured once: it is a line of text if it has no place to break, else a `_Group`, which knows its own line.

The rules of layout are those of Wadler, "A prettier printer" (1998), in the strict form of Lindig, "Strictly pretty"
(2000): a group stands on one line if that fits into the rest of the line, without regard to what follows it.
"""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np
import wadler_lindig as wl

_PLAIN = (bool, int, float, complex, str, bytes, types.NoneType)
_MISSING = object()


class _NotQuick(Exception):
    """There is a document, or a text of several lines, that only `wadler_lindig` can lay out."""


def quick_layout(
    obj: Any,
    *,
    width: int,
    indent: int,
    custom: Callable[[Any], wl.AbstractDoc | None],
    truncate: Callable[[Any], bool] | None,
    short_arrays: bool,
    seen_ids: set[int],
) -> str | None:
    """Return the text of `wadler_lindig.pformat(obj, ...)`, or None for objects that need its full power.

    Args:
      obj: The object.
      width: Columns.
      indent: Columns per level.
      custom: The customisation for `wadler_lindig`. It may treat in its own way: arrays, what `wadler_lindig` does not lay
        out as brackets, and what `truncate` accepts.
      truncate: Tells which objects `custom` cuts short; None if it cuts none.
      short_arrays: Whether `custom` writes an array by dtype and shape.
      seen_ids: The ids of the objects that are being written, to be shared with `custom`.
    """
    reader = _Reader(width, indent, custom, truncate, short_arrays, seen_ids)
    try:
        part = reader.read(obj)
    except _NotQuick:
        seen_ids.clear()
        return None
    out: list[str] = []
    _lay(part, 0, width, out)
    return "".join(out)


class _Group:
    """Parts between brackets: all on one line, or all but the brackets on the next line, or each on a line."""

    __slots__ = ("begin", "end", "indent", "line", "parts", "tail", "text")

    def __init__(self, begin: str, parts: list["_Part"], end: str, tail: str, indent: int, width: int) -> None:
        self.begin, self.parts, self.end, self.tail, self.indent = begin, parts, end, tail, indent
        # What is too long for any line is None, so that no text is copied into ever longer ones.
        self.line: str | None = None
        self.text: str | None = None
        texts = [part if isinstance(part, str) else part.text for part in parts]
        if None not in texts:
            line = ", ".join(texts) + tail  # pyright: ignore[reportArgumentType, reportCallIssue]
            if len(line) <= width:
                self.line = line
                self.text = _if_fits(begin + line + end, width)

    def lay(self, column: int, width: int, out: list[str]) -> None:
        inner = column + self.indent
        newline = "\n" + " " * inner
        out.append(self.begin + newline)
        if self.line is not None and len(self.line) <= width - inner:
            out.append(self.line)
        else:
            separator = ""
            for part in self.parts:
                out.append(separator)
                _lay(part, inner, width, out)
                separator = "," + newline
            out.append(self.tail)
        out.append("\n" + " " * column + self.end)


class _Entry:
    """A key and a value of a dictionary: on one line, or the value under the key."""

    __slots__ = ("key", "text", "value")

    def __init__(self, key: "_Part", value: "_Part", width: int) -> None:
        self.key, self.value = key, value
        key_text = key if isinstance(key, str) else key.text
        value_text = value if isinstance(value, str) else value.text
        self.text = None if key_text is None or value_text is None else _if_fits(f"{key_text}: {value_text}", width)

    def lay(self, column: int, width: int, out: list[str]) -> None:
        _lay(self.key, column, width, out)
        out.append(":\n" + " " * column)
        _lay(self.value, column, width, out)


_Part = str | _Group | _Entry


def _if_fits(text: str, width: int) -> str | None:
    return text if len(text) <= width else None


def _lay(part: _Part, column: int, width: int, out: list[str]) -> None:
    """Write `part`, which begins at `column`: every part that can be broken is the first of its line."""
    if isinstance(part, str):
        out.append(part)
    elif part.text is not None and len(part.text) <= width - column:
        out.append(part.text)
    else:
        part.lay(column, width, out)


class _Reader:
    """Turn objects into parts. How is decided once for each type."""

    def __init__(
        self,
        width: int,
        indent: int,
        custom: Callable[[Any], wl.AbstractDoc | None],
        truncate: Callable[[Any], bool] | None,
        short_arrays: bool,
        seen_ids: set[int],
    ) -> None:
        self._width, self._indent, self._custom, self._truncate = width, indent, custom, truncate
        self._short_arrays, self._seen = short_arrays, seen_ids
        self._readers: dict[type, Callable[[Any], _Part]] = {}
        self._arrays: dict[Any, str] = {}
        # With each text its object, lest the id be given to another one.
        self._foreign: dict[int, tuple[Any, str]] = {}

    def read(self, obj: Any) -> _Part:
        if id(obj) in self._seen:
            return "<recursive>"
        if self._truncate is not None and self._truncate(obj):
            return self._read_foreign(obj)
        cls = type(obj)
        reader = self._readers.get(cls)
        if reader is None:
            reader = self._readers[cls] = self._choose(cls)
        return reader(obj)

    def _choose(self, cls: type) -> Callable[[Any], _Part]:
        if cls in _PLAIN:
            return repr
        if self._short_arrays and issubclass(cls, jax.Array):
            return self._read_jax_array
        if self._short_arrays and issubclass(cls, np.ndarray):
            return self._read_numpy_array
        if hasattr(cls, "__pdoc__") or issubclass(cls, (jax.custom_jvp, jax.custom_vjp)):
            return self._read_foreign
        for base, reader in (
            (tuple, self._read_namedtuple if hasattr(cls, "_fields") else self._read_tuple),
            (list, self._read_list),
            (dict, self._read_dict),
            (jtu.Partial, self._read_jax_partial),
            (functools.partial, self._read_partial),
        ):
            if issubclass(cls, base):
                return reader
        is_set = issubclass(cls, (set, frozenset))
        return self._dataclass_reader(cls) if dataclasses.is_dataclass(cls) and not is_set else self._read_foreign

    def _read_jax_array(self, array: jax.Array) -> str:
        key = (array.dtype, array.shape, getattr(array, "weak_type", False))
        text = self._arrays.get(key)
        if text is None:
            text = self._arrays[key] = self._text(array)
        return text

    def _read_numpy_array(self, array: np.ndarray) -> str:
        key = (array.dtype, array.shape)
        text = self._arrays.get(key)
        if text is None:
            text = self._arrays[key] = self._text(array)
        return text

    def _read_foreign(self, obj: Any) -> str:
        known = self._foreign.get(id(obj))
        if known is None:
            known = self._foreign[id(obj)] = (obj, self._text(obj))
        return known[1]

    def _text(self, obj: Any, **kwargs: Any) -> str:
        """Let `wadler_lindig` read an object that it writes as one unbroken text."""
        doc = wl.pdoc(obj, self._indent, self._short_arrays, self._custom, seen_ids=self._seen, **kwargs)
        while isinstance(doc, wl.GroupDoc):
            doc = doc.child
        # Of other characters some break lines and some have no width.
        if not (isinstance(doc, wl.TextDoc) and doc.text.isprintable() and getattr(doc, "width", True)):
            raise _NotQuick
        return doc.text

    def _group(self, begin: str, parts: list[_Part], end: str, tail: str = "") -> _Part:
        return _Group(begin, parts, end, tail, self._indent, self._width) if parts else begin + end

    def _named(self, name: str, value: Any) -> _Part:
        part = self.read(value)
        if isinstance(part, str):
            return f"{name}={part}"
        if isinstance(part, _Group):
            part.begin = f"{name}={part.begin}"
            part.text = None if part.text is None else _if_fits(f"{name}={part.text}", self._width)
        return part

    def _read_list(self, obj: list[Any]) -> _Part:
        self._seen.add(id(obj))
        parts = [self.read(x) for x in obj]
        self._seen.remove(id(obj))
        return self._group("[", parts, "]")

    def _read_tuple(self, obj: tuple[Any, ...]) -> _Part:
        self._seen.add(id(obj))
        parts = [self.read(x) for x in obj]
        self._seen.remove(id(obj))
        return self._group("(", parts, ")", "," if len(parts) == 1 else "")

    def _read_dict(self, obj: dict[Any, Any]) -> _Part:
        self._seen.add(id(obj))
        parts: list[_Part] = [_Entry(self.read(key), self.read(value), self._width) for key, value in obj.items()]
        self._seen.remove(id(obj))
        return self._group("{", parts, "}")

    def _read_namedtuple(self, obj: Any) -> _Part:
        return self._read_names(obj, type(obj).__name__, [(name, getattr(obj, name)) for name in obj._fields])

    def _read_jax_partial(self, obj: jtu.Partial) -> _Part:
        return self._read_names(obj, "Partial", [("func", obj.func), ("args", obj.args), ("keywords", obj.keywords)])

    def _read_names(self, obj: Any, kind: str, items: list[tuple[str, Any]]) -> _Part:
        self._seen.add(id(obj))
        parts = [self._named(name, value) for name, value in items]
        self._seen.remove(id(obj))
        return self._group(kind + "(", parts, ")")

    def _read_partial(self, obj: functools.partial[Any]) -> _Part:
        self._seen.add(id(obj))
        parts = [self.read(obj.func), *map(self.read, obj.args)]
        parts += [self._named(name, value) for name, value in obj.keywords.items()]
        self._seen.remove(id(obj))
        return self._group("partial(", parts, ")")

    def _dataclass_reader(self, cls: type) -> Callable[[Any], _Part]:
        begin = self._text(cls, show_type_module=False) + "("
        # The printer of `wadler_lindig` undoes the mangling of names like `__x`.
        fields = [
            (f.name, f.name.removeprefix("_" + cls.__name__), f.default) for f in dataclasses.fields(cls) if f.repr
        ]

        def read_dataclass(obj: Any) -> _Part:
            self._seen.add(id(obj))
            parts: list[_Part] = []
            for name, shown, default in fields:
                value = getattr(obj, name, _MISSING)
                if value is _MISSING:
                    parts.append(shown + "=<uninitialised>")
                elif value is not default:
                    parts.append(self._named(shown, value))
            self._seen.remove(id(obj))
            return self._group(begin, parts, ")")

        return read_dataclass
