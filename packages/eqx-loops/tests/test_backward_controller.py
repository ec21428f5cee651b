"""The way back, by simulation of both controllers: its order, and how many steps it takes a second time."""

import collections
import functools
import math

import jax
import jax.numpy as jnp
import pytest

import eqx_loops._backward_controller
import eqx_loops._forward_controller

backward, forward = eqx_loops._backward_controller, eqx_loops._forward_controller

choose = jax.jit(forward.choose_slot)
load = jax.jit(backward.load, static_argnums=3)
stop = jax.jit(backward.stop, static_argnums=1)
next_stop = jax.jit(backward.next_stop)

STEPS = 60


@functools.cache
def held_after(checkpoints):
    """Return for each number of steps, from 0 to 60, which are in the slots."""
    saves, slots, held = forward.first_saves(checkpoints, None), {}, [[]]
    for step in range(STEPS):
        saved, slot, saves = choose(saves, jnp.array(step))
        if saved:
            slots[int(slot)] = step
        held.append(sorted(slots.values()))
    return held


def run(checkpoints, steps):
    """Return the steps taken and gone back over: n for each that is taken, -1 - n when it is gone back over."""
    slots, visited = held_after(checkpoints)[steps], []
    slots = slots + [None] * (checkpoints - len(slots))
    used, end = min(steps, checkpoints), steps
    while end > 0:
        way = load(jnp.array(slots[used - 1]), jnp.array(end), jnp.array(used), checkpoints)
        step = int(way.step)
        while backward.is_under_way(way):
            visited += range(step, step := int(next_stop(way)))
            saved, slot, way = stop(way._replace(step=jnp.array(step)), checkpoints)
            assert int(way.used) <= checkpoints
            if saved:
                slots[int(slot)] = step
        assert step + 1 == end
        visited += [step, -1 - step]
        end, used = end - 1, int(way.used)
    return visited


def specified(checkpoints, steps):
    """The same, in the words of the specification: step by step, in plain numbers."""
    slots = held_after(checkpoints)[steps].copy()
    visited, end = [], steps

    def loaded():
        step = slots[-1]
        if step + 1 == end:
            slots.pop()
        return step, next_save(step)

    def next_save(step):
        free = checkpoints - len(slots)
        if free == 0 or end - step <= 2:
            return None
        return step + 1 if end - step - 2 <= free else step + (end - step) // 2

    if steps:
        step, save = loaded()
    while end > 0:
        visited.append(step)
        if step + 1 == end:
            visited.append(-1 - step)
            end -= 1
            if end:
                step, save = loaded()
        else:
            step += 1
            if step == save:
                slots.append(step)
                save = next_save(step)
    return visited


@functools.cache
def fewest(steps, free):
    """Return how many steps there are to take at least, to go back over so many from a first state that is kept."""
    if steps <= 1:
        return 0
    alone = steps * (steps - 1) // 2
    if free == 0:
        return alone
    return min(first + fewest(steps - first, free - 1) + fewest(first, free) for first in range(1, steps))


@functools.cache
def fewest_after_a_run(steps, free):
    """Return the same if the steps have been taken once before, to the last, and states could be kept on the way."""
    kept = range(1, steps) if free else ()
    again = [fewest_after_a_run(steps - first, free - 1) + fewest(first, free) for first in kept]
    return min([fewest(steps, free), *again])


CHECKPOINTS = [1, 2, 3, 4, 5, 7, 10, 70]


@pytest.mark.parametrize("checkpoints", CHECKPOINTS)
def test_each_step_is_gone_back_over_once_in_reverse_order(checkpoints):
    for steps in range(STEPS + 1):
        visited = run(checkpoints, steps)
        assert [-1 - step for step in visited if step < 0] == list(range(steps))[::-1]
        assert visited == specified(checkpoints, steps)


@pytest.mark.parametrize("checkpoints", CHECKPOINTS)
def test_no_placement_of_the_checkpoints_would_take_fewer_steps_again(checkpoints):
    limit = forward.optimal_steps(checkpoints)
    for steps in range(1, min(limit, STEPS) + 1):
        taken = collections.Counter(step for step in specified(checkpoints, steps) if step >= 0)
        # Each once to be gone back over, which does not count.
        assert taken.total() - steps == fewest_after_a_run(steps, checkpoints - 1)
        assert max(taken.values()) <= 2


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 4, 5, 7])
def test_a_loop_too_long_for_that_takes_less_than_twice_as_many(checkpoints):
    for steps in range(forward.optimal_steps(checkpoints) + 1, STEPS + 1):
        taken = sum(step >= 0 for step in specified(checkpoints, steps)) - steps
        assert fewest_after_a_run(steps, checkpoints - 1) <= taken < 2 * fewest_after_a_run(steps, checkpoints - 1)


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 5])
def test_the_oracle_is_the_binomial_formula_of_griewank_and_walther(checkpoints):
    """Griewank and Walther (2000), "Algorithm 799: revolve", ACM Transactions on Mathematical Software 26(1), theorem 1."""
    for steps in range(1, STEPS + 1):
        repeats = next(r for r in range(STEPS) if math.comb(checkpoints + r, checkpoints) >= steps)
        formula = repeats * steps - math.comb(checkpoints + repeats, checkpoints + 1)
        assert fewest(steps, checkpoints - 1) == formula
