"""Tell what reverse mode through a loop costs, without running it: `loop_cost`."""

import functools
import itertools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core

from ._backward_controller import is_under_way, load, next_stop, stop
from ._forward_controller import choose_slot, default_checkpoints, first_saves
from ._segmented import segment_lengths
from ._slots import read_slot, write_slot_if


class LoopCost(NamedTuple):
    """What reverse mode through a loop costs, beside the forward pass and one pullback of each step.

    Attributes:
      recomputed: How many steps are evaluated a second time, or a third, ..., counting each evaluation.
      carries: How many carries are kept.
      residuals: Of how many steps what the pullback needs is held at the same time.
      bytes_held: The bytes of those carries, or None if it is not known how large one is. It counts neither the
        residuals, nor the step counter and the flag or two that are kept with each carry.
    """

    recomputed: int
    carries: int
    residuals: int
    bytes_held: int | None


def loop_cost(
    max_steps: int,
    *,
    kind: Literal["bounded", "checkpointed", "segmented"],
    steps: int | None = None,
    carry: Any = None,
    checkpoints: int | None = None,
    base: int = 16,
    levels: int = 2,
) -> LoopCost:
    """Return how much is computed again, and how much is kept, to differentiate a `while_loop` in reverse mode.

    Args:
      max_steps: As for `while_loop`, at least 0.
      kind: As for `while_loop`.
      steps: How many steps the loop takes, from 0 to `max_steps`; by default all of these.
      carry: A carry: a PyTree of numbers, arrays or their types, without its buffers, of which no copies are kept.
      checkpoints: As for `while_loop`.
      base: As for `while_loop`.
      levels: As for `while_loop`.

    Raises:
      ValueError: `kind` is none of these, or a number is out of range.

    Example:
      >>> loop_cost(10_000, kind="checkpointed", checkpoints=100, carry=jnp.zeros(64))
      LoopCost(recomputed=35272, carries=100, residuals=1, bytes_held=25600)
      >>> loop_cost(10_000, kind="segmented", carry=jnp.zeros(64))
      LoopCost(recomputed=10000, carries=100, residuals=100, bytes_held=25600)
    """
    steps = max_steps if steps is None else steps
    _check("max_steps", max_steps, 0, None)
    _check("steps", steps, 0, max_steps)
    _check("levels", levels, 1, None)
    _check("base", base, 2, None)
    if checkpoints is not None:
        _check("checkpoints", checkpoints, 1, None)
    if max_steps == 0:
        counts = 0, 0, 0
    elif kind == "segmented":
        lengths = segment_lengths(max_steps, levels)
        slots = [math.ceil(length / part) for length, part in itertools.pairwise(lengths)]
        counts = (levels - 1) * steps, sum(slots[:-1]), slots[-1]
    elif kind == "checkpointed":
        number = min(max_steps, default_checkpoints(max_steps) if checkpoints is None else checkpoints)
        counts = _recomputed(number, max_steps, steps), number, 1
    elif kind == "bounded":
        lengths = _scan_lengths(max_steps, base)
        counts = len(lengths) * steps, sum(lengths), 1
    else:
        raise ValueError(
            f"`loop_cost(kind=...)` must be 'bounded', 'checkpointed' or 'segmented'; got {eqx_core.tree_pformat(kind)}. "
            f"Choose one of these: no other kind computes steps again."
        )
    return LoopCost(*counts, None if carry is None else counts[1] * _bytes(carry))


def _check(name: str, value: Any, least: int, most: int | None) -> None:
    if type(value) is not int or value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(
            f"`loop_cost({name}=...)` must be a Python int, {limits}; got `{eqx_core.tree_pformat(value)}`. Write what "
            f"is given to `while_loop`."
        )


def _bytes(carry: Any) -> int:
    leaves = (x if hasattr(x, "dtype") else jnp.asarray(x) for x in jtu.tree_leaves(carry))
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)


def _scan_lengths(max_steps: int, base: int) -> list[int]:
    """Return the lengths of the nested scans of a bounded loop, from the innermost."""
    lengths, steps = [], 1
    while steps < max_steps or not lengths:
        lengths.append(min(base, math.ceil(max_steps / steps)))
        steps *= lengths[-1]
    return lengths


def _recomputed(checkpoints: int, max_steps: int, steps: int) -> int:
    """Return how many steps a checkpointed loop evaluates again, by letting its controllers decide."""
    if checkpoints == max_steps:
        return steps
    return int(_decide(checkpoints, max_steps, steps))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decide(checkpoints: int, max_steps: int, steps: Any) -> jax.Array:
    saves = jax.lax.fori_loop(
        0, steps, lambda step, saves: choose_slot(saves, step)[-1], first_saves(checkpoints, max_steps)
    )

    def over_a_step(carry: Any) -> Any:
        end, used, kept, count = carry
        way = load(read_slot(kept, used - 1), end, used, checkpoints)

        def to_next_stop(carry: Any) -> Any:
            way, kept, count = carry
            target = next_stop(way)
            saved, slot, after = stop(way._replace(step=target), checkpoints)
            return after, write_slot_if(saved, kept, slot, target), count + target - way.step

        way, kept, count = jax.lax.while_loop(lambda carry: is_under_way(carry[0]), to_next_stop, (way, kept, count))
        # The step to go back over is evaluated once more itself.
        return end - 1, way.used, kept, count + 1

    first = steps, jnp.minimum(steps, checkpoints), jnp.sort(saves.steps), jnp.zeros_like(steps)
    return jax.lax.while_loop(lambda carry: carry[0] > 0, over_a_step, first)[-1]
