"""Choose which carries to keep while a loop runs, before anyone knows how long it will run: `Saves`.

Two algorithms, one after the other, for `checkpoints` slots:

- For the first `(checkpoints + 1) (checkpoints + 2) / 2 - 1` steps, algorithm I of Stumm and Walther: however long the
  loop turns out to be, no placement would have to compute fewer steps a second time.
- After that, the placement of Wang, Moin and Iaccarino, which keeps every step for a time. Slots have levels. The step
  after takes a dispensable slot; if there is none, that of the step before, which rises by a level, and those of a lower
  level than it had become dispensable.

References:
  Stumm, Walther (2010). "New algorithms for optimal online checkpointing". SIAM Journal on Scientific Computing 32(2).
  Wang, Moin, Iaccarino (2009). "Minimal repetition dynamic checkpointing algorithm for unsteady adjoint calculation".
    SIAM Journal on Scientific Computing 31(4).
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._slots import read_slot, write_slot, write_slot_if


class Saves(NamedTuple):
    """What the forward controller knows.

    Attributes:
      steps: `int[checkpoints]`, the step that each slot holds the carry of; for a free slot the largest integer.
      slot: Stumm and Walther: the slot to write next.
      last: The last slot that the present sweep over the slots writes. Those after it are final.
      pause: The step that ends the present sweep, which is not kept.
      saving: `bool[]`, whether to keep the next step.
      level: Wang, Moin and Iaccarino: `int[checkpoints]`. With `dispensable`, None if the loop is too short for them.
      dispensable: `bool[checkpoints]`.
    """

    steps: Any
    slot: Any
    last: Any
    pause: Any
    saving: Any
    level: Any
    dispensable: Any


def default_checkpoints(max_steps: int) -> int:
    """Return the fewest checkpoints with which no step is computed more than three times: once, and twice again.

    It is the smallest `c` with `2 * max_steps < (c + 1) * (c + 2)`, but not more than `max_steps`.

    Args:
      max_steps: The most steps that the loop takes, at least 1.

    Example:
      >>> default_checkpoints(10_000)
      140
    """
    # Rounded down, and exact for integers of any size.
    c = (math.isqrt(8 * max_steps + 1) - 3) // 2 + 1
    return min(c, max_steps)


def optimal_steps(checkpoints: int) -> int:
    """Return for how many steps algorithm I of Stumm and Walther is in charge.

    Example:
      >>> optimal_steps(140)
      10010
    """
    return (checkpoints + 1) * (checkpoints + 2) // 2 - 1


def first_saves(checkpoints: int, max_steps: int | None) -> Saves:
    """Return the controller before the first step.

    Args:
      checkpoints: How many slots there are, at least 1.
      max_steps: The most steps that the loop takes, if that is known.
    """
    number = jnp.full((), checkpoints, int)
    steps = jnp.full((checkpoints,), jnp.iinfo(number.dtype).max, int)
    level = dispensable = None
    if max_steps is None or max_steps > optimal_steps(checkpoints):
        # Nothing is above the first step, which is needed to the end.
        level = jnp.zeros((checkpoints,), int).at[0].set(jnp.iinfo(number.dtype).max)
        dispensable = jnp.zeros((checkpoints,), bool)
    return Saves(steps, jnp.zeros((), int), number, number, jnp.array(True), level, dispensable)


def choose_slot(saves: Saves, step: Any) -> tuple[Any, Any, Saves]:
    """Decide about the carry before `step`, given the decisions about all steps before it.

    Args:
      saves: The controller.
      step: `int[]`, counted from 0.

    Returns:
      `(saved, slot, saves)`: `bool[]`, whether to keep it; `int[]`, where; and the controller for the next step.
    """
    if saves.level is None:
        saved, slot, saves = _stumm_walther(saves, step)
    else:
        limit = min(optimal_steps(saves.steps.size), jnp.iinfo(step.dtype).max)
        saved, slot, saves = jax.lax.cond(step < limit, _stumm_walther, _wang_moin, saves, step)
    return saved, slot, saves._replace(steps=write_slot_if(saved, saves.steps, slot, step))


def _stumm_walther(saves: Saves, step: Any) -> tuple[Any, Any, Saves]:
    saved, slot, last, pause = saves.saving, saves.slot, saves.last, saves.pause
    following = jnp.where(saved, slot + 1, slot)
    following = jnp.where(saved & (following > last), 1, following)
    # The next sweep starts with its last slot, and goes on from slot 1; slot 0 keeps the first step.
    ends = step == pause
    saves = saves._replace(
        slot=jnp.where(ends, last - 1, following),
        last=jnp.where(ends, last - 1, last),
        pause=jnp.where(ends, pause + last, pause),
        saving=jnp.where(ends, last > 1, saved & (step + 1 != pause)),
    )
    # With as many slots as steps or more, the slot after the last is never written.
    return saved, jnp.minimum(slot, saves.steps.size - 1), saves


def _wang_moin(saves: Saves, step: Any) -> tuple[Any, Any, Saves]:
    steps, level, dispensable = saves.steps, saves.level, saves.dispensable
    if steps.size == 1:
        # The only slot has the first step.
        return jnp.array(False), jnp.zeros((), int), saves
    reuse = jnp.any(dispensable)
    # All slots are in use by now.
    slot = jnp.argmax(jnp.where(dispensable | ~reuse, steps, -1)).astype(steps.dtype)
    its_level = read_slot(level, slot)
    dispensable = write_slot(jnp.where(reuse, dispensable, level < its_level), slot, jnp.array(False))
    level = write_slot(level, slot, jnp.where(reuse, 0, its_level + 1))
    return jnp.array(True), slot, saves._replace(level=level, dispensable=dispensable)
