"""Show progress by a bar of characters, with the rate and the time left: `BarProgressMeter`."""

import sys
import time

from jax.typing import ArrayLike

import eqx_core

from ._open_bars import Bar, close_bar
from ._progress_meter import AbstractProgressMeter
from ._text_progress_meter import ReportedProgress, report_from_zero

# Where lines cannot be rewritten, as in a log, there is one for each tenth of the work.
_SPARSE = 0.1


class BarProgressMeter(AbstractProgressMeter):
    """Shows a bar of characters, the time taken, the time left and the rate, on the standard error.

    A terminal shows one line, which is rewritten. Elsewhere, as in a file, each tenth of the work is a line:
    `[#####-----]  50.0 %  00:03 taken, 00:03 left, 16.7 %/s`.

    Attributes:
      minimum_increase: How much progress must have grown for the bar to be drawn anew: 0.01 is 1 %.
      width: How many characters the bar has, at least 1.

    Raises:
      ValueError: `width` is below 1.

    Example:
      >>> meter = eqx_loops.BarProgressMeter(width=20)
      >>> state = meter.step(meter.init(), 0.5)
      >>> meter.close(state)
    """

    minimum_increase: ArrayLike = 0.01
    width: int = eqx_core.field(static=True, default=40)

    def __check_init__(self) -> None:
        if self.width < 1:
            raise ValueError(
                f"`BarProgressMeter(width=...)` must be at least 1; got {self.width}. Write the number of characters."
            )

    def init(self) -> ReportedProgress:
        """Draw the bar at 0; return the first state."""
        width = self.width
        return report_from_zero(lambda: TextBar(width))

    def step(self, state: ReportedProgress, progress: ArrayLike) -> ReportedProgress:
        """Draw the bar if progress has grown enough; return the next state.

        Args:
          state: What `init` or the last `step` has returned.
          progress: `[]`, real: the part of the work that is done, from 0 to 1.

        Raises:
          ValueError: `progress` is no scalar.
        """
        return state.step(progress, self.minimum_increase)

    def close(self, state: ReportedProgress) -> None:
        """Fill the bar and leave it.

        Args:
          state: What the last `step` has returned.
        """
        close_bar(state.number, state.reports)


class TextBar(Bar):
    """A bar of characters on the standard error.

    Args:
      width: How many characters.
    """

    def __init__(self, width: int):
        self.width = width
        self.stream = sys.stderr
        self.rewrites = self.stream.isatty()
        self.start = time.monotonic()
        self.shown = 0.0
        self.length = 0
        self._draw(0.0)

    def show(self, progress: float) -> None:
        """Show progress if that is more than before, in sparse lines where a line cannot be rewritten."""
        progress = min(progress, 1.0)
        if progress < 1 and progress - self.shown > (0 if self.rewrites else _SPARSE):
            self._draw(progress)

    def close(self) -> None:
        """Fill the bar and end the line."""
        self._draw(1.0)
        if self.rewrites:
            print(file=self.stream, flush=True)

    def _draw(self, progress: float) -> None:
        self.shown = progress
        line = bar_line(progress, time.monotonic() - self.start, self.width)
        if self.rewrites:
            # The line before may have been longer.
            print(f"\r{line:{self.length}}", end="", file=self.stream, flush=True)
            self.length = len(line)
        else:
            print(line, file=self.stream, flush=True)


def bar_line(progress: float, taken: float, width: int) -> str:
    """Return the line that says how far the work has got.

    Args:
      progress: From 0 to 1.
      taken: Seconds since the start.
      width: How many characters the bar has.
    """
    filled = "#" * int(progress * width)
    left = taken * (1 - progress) / progress if progress > 0 else None
    rate = f"{100 * progress / taken:.1f}" if taken > 0 else "?"
    bar = f"[{filled:-<{width}}] {100 * progress:5.1f} %"
    return f"{bar}  {_clock(taken)} taken, {_clock(left)} left, {rate} %/s"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
