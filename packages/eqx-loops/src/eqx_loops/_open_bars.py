"""Keep progress bars open on the host while a compiled program reports to them."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import eqx_filter.internal

from ._jax_compat import effectful_identity


@runtime_checkable
class Bar(Protocol):
    """What the host shows of one run of a program."""

    def show(self, progress: float) -> None:
        """Show that this part of the work, usually between 0 and 1, is done."""

    def close(self) -> None:
        """Show that the work has ended."""


@dataclasses.dataclass
class _Opened:
    """A bar, and the ordinal of the last report that it has shown."""

    bar: Bar
    ordinal: int = -1


_bars: dict[int, _Opened] = {}
_numbers = itertools.count()
# Without it `jax.checkpoint` would open a second bar in its backward pass.
_opened_p = effectful_identity("opened_bar")


def open_bar(make: Callable[[], Bar]) -> jax.Array:
    """Open a bar each time that the program gets here; return its number, `i32[]`.

    Args:
      make: What makes the bar, on the host.
    """

    def start() -> np.ndarray:
        number = next(_numbers)
        _bars[number] = _Opened(make())
        return np.asarray(number, np.int32)

    # Not `io_callback`, which neither `jax.checkpoint` nor the rules of a custom derivative may contain.
    return _opened_p.bind(jax.pure_callback(start, jax.ShapeDtypeStruct((), jnp.int32)))


def show(number: ArrayLike, ordinal: ArrayLike, progress: ArrayLike) -> None:
    """Show the progress on a bar, unless a later report has been shown.

    Args:
      number: Which bar.
      ordinal: Which report: these numbers grow.
      progress: The part of the work that is done.
    """
    jax.debug.callback(_show, eqx_filter.internal.unvmap_max(number), ordinal, progress)


def close_bar(number: ArrayLike, ordinal: ArrayLike) -> None:
    """Close a bar.

    Args:
      number: Which bar.
      ordinal: That of the next report, if there were one.
    """
    # The number is the same before and after a loop that reports; without the ordinal, XLA may close the bar before it.
    jax.debug.callback(_close, eqx_filter.internal.unvmap_max(number), eqx_filter.internal.unvmap_max(ordinal))


def slowest(progress: ArrayLike) -> jax.Array:
    """Return the smallest progress among all elements of all batches, without derivative, as a float of the usual width.

    Args:
      progress: `[]`, real.

    Raises:
      ValueError: It is no scalar.
    """
    dtype = jnp.result_type(float)
    given = jax.lax.stop_gradient(jnp.asarray(progress))
    if given.shape != ():
        raise ValueError(
            f"`AbstractProgressMeter.step(progress=...)` must be a scalar; got `{given.dtype}{list(given.shape)}`. "
            f"Reduce it, for example by `jnp.min(progress)`."
        )
    return -eqx_filter.internal.unvmap_max(-given.astype(dtype))


def _show(number: Any, ordinal: Any, progress: Any) -> None:
    # A backward pass runs steps again, perhaps after the bar was closed.
    opened = _bars.get(int(number))
    if opened is not None and ordinal > opened.ordinal:
        opened.ordinal = int(ordinal)
        opened.bar.show(float(progress))


def _close(number: Any, ordinal: Any) -> None:
    if (opened := _bars.pop(int(number), None)) is not None:
        opened.bar.close()
