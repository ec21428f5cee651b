"""Remember the calls of a jitted function, to say of each that is traced why it is."""

import dataclasses
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import jax
import jax.core
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from ._axes import short
from ._jax_compat import trace_context
from ._jit_output import are_traceable
from ._signature import Signature

_NUMBERS = (bool, int, float, complex)
_MAKE_ARRAY = "A Python number is static: make it an array, and it is traced once."
_MAKE_ONCE = "It is another object: make it once and pass the same one."


@dataclasses.dataclass(frozen=True)
class _ArrayForm:
    """What of an array decides about the program."""

    shape: tuple[int, ...]
    dtype: Any
    weak: bool
    sharding: Any

    @property
    def text(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class _StaticForm:
    """A leaf that is no array."""

    key: Hashable
    text: str = dataclasses.field(compare=False)
    kind: type = dataclasses.field(compare=False)


_Form = _ArrayForm | _StaticForm


class Leaf:
    """Stands for a leaf in a tree of which only the structure is compared."""

    def __init__(self, form: _Form):
        self.form = form

    def __repr__(self) -> str:
        return self.form.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Leaf)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


@dataclasses.dataclass(frozen=True)
class _Record:
    """All that decides about the program of a call."""

    treedef: Any
    forms: tuple[_Form | None, ...]
    context: Hashable


class Retraces:
    """The calls of one function that have been traced.

    Args:
      report: Called with the text that says why a call is traced.
      owned: Whether the first leaf of a call is the function itself, which is not to be kept alive.
    """

    def __init__(self, report: Callable[[str], Any], owned: bool):
        self._report = report
        self._owned = owned
        self._records: dict[Hashable, dict[_Record, None]] = {}

    def clear(self) -> None:
        self._records.clear()

    def note(self, name: str, call: Any, signature: Signature, traced: Sequence[bool] | None = None) -> None:
        """Report why a call `(fun, args, kwargs)` is traced, if it is and is not the first one.

        Args:
          name: What to call the function.
          call: The call.
          signature: How its arguments are called.
          traced: Which leaves are traced; None for the arrays.
        """
        leaves, treedef = jtu.tree_flatten(call)
        traced = are_traceable(leaves) if traced is None else traced
        forms = [_form(leaf, is_traced) for leaf, is_traced in zip(leaves, traced, strict=True)]
        record = _Record(treedef, (None, *forms[1:]) if self._owned else tuple(forms), trace_context())
        known = self._records.setdefault((type(call[0]), name), {})
        if record in known:
            return
        if known:
            lines = min((_differences(old, record, signature) for old in reversed(known)), key=len)
            self._report(
                f"`{name}` is traced again, for the {_ordinal(len(known) + 1)} time. Since the most similar call:\n"
                + "\n".join(f"  {line}" for line in lines)
            )
        known[record] = None


def to_stderr(text: str) -> None:
    """Print a report where it does not mix with the output of the program."""
    print(text, file=sys.stderr)


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _form(leaf: Any, is_traced: bool) -> _Form:
    if not is_traced:
        return _StaticForm(eqx_core.internal.typed_key(leaf), short(leaf), type(leaf))
    kind = jax.typeof(leaf)
    # What is being traced itself, or is not bound to a place, is compiled for wherever it is.
    placed = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.committed
    return _ArrayForm(kind.shape, kind.dtype, getattr(kind, "weak_type", False), leaf.sharding if placed else None)


def _differences(old: _Record, new: _Record, signature: Signature) -> list[str]:
    """Return a line for each thing by which the new call differs from the old one."""
    before, after = _by_path(old, signature), _by_path(new, signature)
    lines = [] if old.treedef == new.treedef else list(_structure(old, new, signature))
    for path, form in after.items():
        earlier = before.get(path)
        if earlier is not None and form is not None and earlier != form:
            lines += [f"`{path}`: {line}" for line in _changes(earlier, form)]
    if not lines and old.context != new.context:
        lines.append("no argument changed, but a setting of JAX, as `jax_enable_x64`, or the mesh or axis in scope did")
    return lines or ["the structure of the arguments changed in what its nodes keep beside their children"]


def _by_path(record: _Record, signature: Signature) -> dict[str, _Form | None]:
    tree = record.treedef.unflatten(map(Leaf, record.forms))  # pyright: ignore[reportArgumentType]
    return {signature.describe(path): leaf.form for path, leaf in jtu.tree_flatten_with_path(tree)[0]}


def _structure(old: _Record, new: _Record, signature: Signature) -> Iterator[str]:
    before, after = _by_argument(old, signature), _by_argument(new, signature)
    for name in before | after:
        if name not in after:
            yield f"`{name}`: structure: it is not passed any more"
        elif name not in before:
            yield f"`{name}`: structure: it was not passed before"
        else:
            for found in eqx_core.tree_diff(before[name], after[name]):
                kind = "static value" if found.kind == "static" else "structure"
                message = found.message.replace("in the first tree only", "not there any more")
                yield f"`{name}{found.path}`: {kind}: {message.replace('in the second tree only', 'new')}"


def _by_argument(record: _Record, signature: Signature) -> dict[str, Any]:
    fun, args, kwargs = record.treedef.unflatten(map(Leaf, record.forms))  # pyright: ignore[reportArgumentType]
    names = [signature.describe((jtu.SequenceKey(1), jtu.SequenceKey(i))) for i in range(len(args))]
    return {"fun": fun, **dict(zip(names, args, strict=True)), **kwargs}


def _changes(old: _Form, new: _Form) -> Iterator[str]:
    if isinstance(old, _ArrayForm) and isinstance(new, _ArrayForm):
        if old.shape != new.shape:
            yield f"shape {old.shape} became {new.shape}"
        if old.dtype != new.dtype:
            yield f"dtype {old.dtype} became {new.dtype}"
        if old.weak != new.weak:
            yield f"weak type {old.weak} became {new.weak}"
        if old.sharding != new.sharding:
            yield f"sharding {_place(old.sharding)} became {_place(new.sharding)}"
    elif isinstance(old, _StaticForm) and isinstance(new, _StaticForm):
        before, after = old.text, new.text
        if old.kind is not new.kind:
            before, after = f"{before} ({old.kind.__name__})", f"{after} ({new.kind.__name__})"
        numbers = issubclass(old.kind, _NUMBERS) and issubclass(new.kind, _NUMBERS)
        hint = _MAKE_ARRAY if numbers else _MAKE_ONCE if before == after else ""
        yield f"static value {before} became {after}. {hint}".rstrip(". ") + ("." if hint else "")
    else:
        yield f"static value {old.text} became {new.text}"


def _place(sharding: Any) -> str:
    return "(not bound to a device)" if sharding is None else str(sharding)
