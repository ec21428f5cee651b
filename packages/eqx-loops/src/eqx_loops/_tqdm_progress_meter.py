"""Show progress by a bar of tqdm: `TqdmProgressMeter`."""

import importlib
import importlib.util

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

import eqx_core
from eqx_filter.internal import unvmap_max

from ._open_bars import Bar, close_bar, open_bar, show, slowest
from ._progress_meter import AbstractProgressMeter


class CountedSteps(eqx_core.Module):
    """The state of a meter that reports every so many steps.

    Attributes:
      steps: `i32[]`, how many there have been.
      number: `i32[]`, which bar it is.
    """

    steps: jax.Array
    number: jax.Array


class TqdmProgressMeter(AbstractProgressMeter):
    """Shows a bar of tqdm, which must be installed, on the standard error.

    Attributes:
      refresh_steps: Every how many steps the bar is drawn anew, at least 1. The first one draws it too.

    Raises:
      ValueError: tqdm is not installed, or `refresh_steps` is below 1.
    """

    refresh_steps: int = eqx_core.field(static=True, default=20)

    def __check_init__(self) -> None:
        if importlib.util.find_spec("tqdm") is None:
            raise ValueError(
                "`TqdmProgressMeter()` must find tqdm; got none. Install it by `pip install tqdm`, or use "
                "`eqx_loops.BarProgressMeter()`, which needs nothing."
            )
        if self.refresh_steps < 1:
            raise ValueError(
                f"`TqdmProgressMeter(refresh_steps=...)` must be at least 1; got {self.refresh_steps}. Write 1 to draw "
                f"the bar at every step."
            )

    def init(self) -> CountedSteps:
        """Draw the bar at 0; return the first state."""
        return CountedSteps(jnp.asarray(0, jnp.int32), open_bar(_Tqdm))

    def step(self, state: CountedSteps, progress: ArrayLike) -> CountedSteps:
        """Draw the bar every `refresh_steps` steps; return the next state.

        Args:
          state: What `init` or the last `step` has returned.
          progress: `[]`, real: the part of the work that is done, from 0 to 1.

        Raises:
          ValueError: `progress` is no scalar.
        """
        now, steps, number = slowest(progress), unvmap_max(state.steps), unvmap_max(state.number)
        jax.lax.cond(steps % self.refresh_steps == 0, lambda: show(number, steps, now), lambda: None)
        return CountedSteps(steps + 1, number)

    def close(self, state: CountedSteps) -> None:
        """Fill the bar and leave it.

        Args:
          state: What the last `step` has returned.
        """
        close_bar(state.number, state.steps)


class _Tqdm(Bar):
    """A bar of tqdm that counts per cent."""

    def __init__(self) -> None:
        shape = "{percentage:.2f}%|{bar}| [{elapsed}<{remaining}, {rate_fmt}]"
        self.bar = importlib.import_module("tqdm").tqdm(total=100, unit="%", bar_format=shape)

    def show(self, progress: float) -> None:
        self.bar.n = 100 * progress
        self.bar.refresh()

    def close(self) -> None:
        self.bar.n = 100
        self.bar.close()
