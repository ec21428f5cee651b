"""Say how far a long computation has got: the interface of all progress meters, and the silent one."""

import abc
from typing import Any

from jax.typing import ArrayLike

import eqx_core


class AbstractProgressMeter(eqx_core.Module):
    """What a loop reports its progress to.

    A loop calls `init` once, threads the state through `step`, and calls `close` at its end. All three work under
    `jax.jit` and inside of loops. Under `jax.vmap` there is one bar, which shows the slowest element of the batch; steps
    that a backward pass runs again are not shown again; and progress has no derivative.

    Example:
      >>> meter = eqx_loops.TextProgressMeter(minimum_increase=0.4)
      >>> def body(i, carry):
      ...     x, state = carry
      ...     return 2 * x, meter.step(state, (i + 1) / 4)
      >>> @jax.jit
      ... def power(x):
      ...     x, state = jax.lax.fori_loop(0, 4, body, (x, meter.init()))
      ...     meter.close(state)
      ...     return x
      >>> x = power(1.0).block_until_ready()
      0.00%
      50.00%
      100.00%
    """

    @abc.abstractmethod
    def init(self) -> Any:
        """Start to show progress, at 0; return the first state: a PyTree of arrays."""

    @abc.abstractmethod
    def step(self, state: Any, progress: ArrayLike) -> Any:
        """Show progress, perhaps not at once; return the next state.

        Args:
          state: What `init` or the last `step` has returned.
          progress: `[]`, real: the part of the work that is done, from 0 to 1.

        Raises:
          ValueError: `progress` is no scalar.
        """

    @abc.abstractmethod
    def close(self, state: Any) -> None:
        """Show that the work has ended.

        Args:
          state: What the last `step` has returned.
        """


class NoProgressMeter(AbstractProgressMeter):
    """Shows nothing, at no cost. Its state is None.

    Example:
      >>> meter = eqx_loops.NoProgressMeter()
      >>> print(meter.init(), meter.step(None, 0.5), meter.close(None))
      None None None
    """

    def init(self) -> None:
        """Return None."""

    def step(self, state: None, progress: ArrayLike) -> None:
        """Return None."""

    def close(self, state: None) -> None:
        """Do nothing."""
