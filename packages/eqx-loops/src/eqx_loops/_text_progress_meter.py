"""Print progress as percentages, one to a line: `TextProgressMeter`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.typing import ArrayLike

import eqx_core
from eqx_filter.internal import unvmap_max

from ._open_bars import Bar, close_bar, open_bar, show, slowest
from ._progress_meter import AbstractProgressMeter


class ReportedProgress(eqx_core.Module):
    """The state of a meter that reports whenever progress has grown enough.

    Attributes:
      progress: `f[]`, what was reported last.
      reports: `i32[]`, how many reports there have been.
      number: `i32[]`, which bar it is.
    """

    progress: jax.Array
    reports: jax.Array
    number: jax.Array

    def step(self, progress: ArrayLike, minimum_increase: ArrayLike) -> "ReportedProgress":
        """Report `progress` if it has grown by more than `minimum_increase`, or is 1."""
        now, old = slowest(progress), jtu.tree_map(unvmap_max, self)
        enough = now - old.progress > unvmap_max(jnp.asarray(minimum_increase, now.dtype))

        def report() -> ReportedProgress:
            show(old.number, old.reports, now)
            return ReportedProgress(now, old.reports + 1, old.number)

        return jax.lax.cond(enough | (now == 1), report, lambda: old)


def report_from_zero(make: Callable[[], Bar]) -> ReportedProgress:
    """Open the bar that `make` makes, which shows a progress of 0; return the first state."""
    return ReportedProgress(jnp.zeros((), jnp.result_type(float)), jnp.zeros((), jnp.int32), open_bar(make))


class TextProgressMeter(AbstractProgressMeter):
    """Prints percentages: `0.00%` at the start, then whenever there is enough progress, and `100.00%` at the end.

    Attributes:
      minimum_increase: How much progress must have grown since the last line for the next: 0.02 is 2 %. A progress of 1
        is always printed.

    Example:
      >>> meter = eqx_loops.TextProgressMeter(minimum_increase=0.1)
      >>> def report():
      ...     state = meter.step(meter.init(), 0.05)  # Too little to be shown.
      ...     meter.close(meter.step(state, 0.125))
      >>> jax.block_until_ready(report())
      0.00%
      12.50%
      100.00%
    """

    minimum_increase: ArrayLike = 0.02

    def init(self) -> ReportedProgress:
        """Print `0.00%`; return the first state."""
        return report_from_zero(_Lines)

    def step(self, state: ReportedProgress, progress: ArrayLike) -> ReportedProgress:
        """Print progress if it has grown enough; return the next state.

        Args:
          state: What `init` or the last `step` has returned.
          progress: `[]`, real: the part of the work that is done, from 0 to 1.

        Raises:
          ValueError: `progress` is no scalar.
        """
        return state.step(progress, self.minimum_increase)

    def close(self, state: ReportedProgress) -> None:
        """Print `100.00%`, unless that was the last line.

        Args:
          state: What the last `step` has returned.
        """
        close_bar(state.number, state.reports)


class _Lines(Bar):
    """Prints each percentage on a line of its own."""

    def __init__(self) -> None:
        self.show(0.0)

    def show(self, progress: float) -> None:
        self.shown = progress
        print(f"{100 * progress:.2f}%", flush=True)

    def close(self) -> None:
        if self.shown != 1:
            print("100.00%", flush=True)
