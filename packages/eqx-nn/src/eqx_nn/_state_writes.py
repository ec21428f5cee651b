"""Mark what is written to a `State` in the program that is traced, so that `check_state` can follow it."""

import contextlib
import contextvars
import dataclasses
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.ad_checkpoint import checkpoint_name

_PREFIX = "eqx_nn.State.set:"
_NUMBERS = itertools.count()


@dataclasses.dataclass(frozen=True)
class Write:
    """One call of `State.set`.

    Attributes:
      name: What marks it in the program.
      index: The path to the index in the model.
      lines: The lines of code that led to the call, from the outermost on.
      marked: The arrays that were marked. JAX drops from a program what nobody holds, so they are held here.
    """

    name: str
    index: str
    lines: tuple[tuple[str, int], ...]
    marked: list[Any]


_WRITES: contextvars.ContextVar[dict[int, Write] | None] = contextvars.ContextVar("writes", default=None)


@contextlib.contextmanager
def collecting() -> Iterator[dict[int, Write]]:
    """Have each call of `State.set` marked in here, and collect them by number."""
    writes: dict[int, Write] = {}
    token = _WRITES.set(writes)
    try:
        yield writes
    finally:
        _WRITES.reset(token)


def is_collecting() -> bool:
    """Return whether writes are being marked."""
    return _WRITES.get() is not None


def marked(index: str, old: Any, new: Any) -> Any:
    """Return `new`, of the structure of `old`, in the program a marked function of both; if none is checked, itself."""
    writes = _WRITES.get()
    if writes is None:
        return new
    number = next(_NUMBERS)
    name = f"{_PREFIX}{number}:{index}"

    def mark(old: Any, new: Any) -> Any:
        # A value that is overwritten reaches wherever the one that replaces it does.
        return checkpoint_name(jnp.where(True, new, old), name)

    new = jtu.tree_map(mark, old, new)
    writes[number] = Write(name, index, _lines(), jtu.tree_leaves(new))
    return new


def parsed(name: str) -> tuple[int, str] | None:
    """Return the number and the index of the write that a name in a program marks, or None if it is another name."""
    if not name.startswith(_PREFIX):
        return None
    number, _, index = name.removeprefix(_PREFIX).partition(":")
    return int(number), index


def _lines() -> tuple[tuple[str, int], ...]:
    """Return where the program is, without the lines in JAX, which differ if it traces a function once more."""
    lines: list[tuple[str, int]] = []
    frame = sys._getframe(2)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] != jax.__name__:
            lines.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return tuple(reversed(lines))
