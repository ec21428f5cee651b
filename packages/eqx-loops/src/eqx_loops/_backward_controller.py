"""Find a way back through the steps of a loop, given the carries of some of them: `Way`.

To go back over step `end - 1` takes the carry before it. The controller starts from the nearest one that is kept, steps
forward from there, and on the way fills the slots that have become free, each time in the middle of what is left.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp


class Way(NamedTuple):
    """Where the backward pass is.

    Attributes:
      step: `int[]`, the number of steps that lead to the carry at hand.
      end: `int[]`, the number of steps that are left to go back over.
      used: `int[]`, how many slots hold a carry. They are the first ones, in the order of their steps.
      next_save: `int[]`, the step whose carry is to be kept next; the largest integer if none is.
    """

    step: Any
    end: Any
    used: Any
    next_save: Any


def load(step: Any, end: Any, used: Any, checkpoints: int) -> Way:
    """Return the way to step `end - 1` from the carry in the last slot that is used.

    Args:
      step: `int[]`, the step that slot is for.
      end: `int[]`, the number of steps that are left, at least 1.
      used: `int[]`, how many slots are used, at least 1. The last becomes free if it is what was sought.
      checkpoints: How many slots there are.
    """
    used = jnp.where(step + 1 == end, used - 1, used)
    return Way(step, end, used, _next_save(step, end, used, checkpoints))


def is_under_way(way: Way) -> Any:
    """Return `bool[]`, whether there are steps to go before the one to go back over."""
    return way.step + 1 < way.end


def next_stop(way: Way) -> Any:
    """Return `int[]`, the step up to which there is nothing to do but to step."""
    return jnp.minimum(way.next_save, way.end - 1)


def stop(way: Way, checkpoints: int) -> tuple[Any, Any, Way]:
    """Decide about the carry at hand, at the next stop.

    Args:
      way: Where the backward pass is, `way.step` being `next_stop` of the way before.
      checkpoints: How many slots there are.

    Returns:
      `(saved, slot, way)`: `bool[]`, whether to keep it; `int[]`, where; and how to go on.
    """
    saved, slot = way.step == way.next_save, jnp.minimum(way.used, checkpoints - 1)
    used = jnp.where(saved, way.used + 1, way.used)
    next_save = jnp.where(saved, _next_save(way.step, way.end, used, checkpoints), way.next_save)
    return saved, slot, way._replace(used=used, next_save=next_save)


def _next_save(step: Any, end: Any, used: Any, checkpoints: int) -> Any:
    left = end - step
    # If the slots suffice for all that is left but the last two steps, each gets one.
    following = jnp.where(left - 2 <= checkpoints - used, step + 1, step + left // 2)
    return jnp.where((used == checkpoints) | (left <= 2), jnp.iinfo(step.dtype).max, following)
