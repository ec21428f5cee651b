"""What is kept on the way there. That it is the best choice shows on the way back: see test_backward_controller.py."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_loops._forward_controller

controller = eqx_loops._forward_controller
choose = jax.jit(controller.choose_slot)


def run(checkpoints, steps, max_steps=None):
    """Return what the slots hold after each number of steps, from 0 on, as the caller who writes to them has it."""
    saves, slots = controller.first_saves(checkpoints, max_steps), {}
    held = [{}]
    for step in range(steps):
        saved, slot, saves = choose(saves, jnp.array(step))
        if saved:
            slots[int(slot)] = step
        free = np.iinfo(saves.steps.dtype).max
        assert {i: step for i, step in enumerate(saves.steps.tolist()) if step != free} == slots
        held.append(slots.copy())
    return held


def test_the_default_is_the_least_number_for_which_two_more_runs_of_a_step_suffice():
    for max_steps in range(1, 2000):
        number = controller.default_checkpoints(max_steps)
        enough = [c for c in range(1, number + 1) if 2 * max_steps < (c + 1) * (c + 2)]
        assert enough == [number]
        assert number == (1 if max_steps == 1 else math.floor(-1.5 + math.sqrt(2 * max_steps + 0.25)) + 1)
        assert max_steps <= controller.optimal_steps(number)


def test_the_default_is_exact_for_large_numbers():
    c = 10**12
    assert controller.default_checkpoints((c + 1) * (c + 2) // 2 - 1) == c
    assert controller.default_checkpoints((c + 1) * (c + 2) // 2) == c + 1


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 4, 7, 70])
def test_the_first_step_stays_and_no_slot_is_wasted(checkpoints):
    for steps, held in enumerate(run(checkpoints, 60)):
        assert len(held) == len(set(held.values())) == min(steps, checkpoints)
        assert held.get(0, 0) == 0
        assert all(step < steps for step in held.values())


@pytest.mark.parametrize("checkpoints", [2, 3, 5])
def test_a_long_loop_keeps_the_latest_step(checkpoints):
    optimal_steps = controller.optimal_steps(checkpoints)
    for steps, held in enumerate(run(checkpoints, 200)):
        assert steps <= optimal_steps or max(held.values()) == steps - 1


def test_a_long_loop_with_one_slot_keeps_the_first_step():
    assert run(1, 20)[1:] == [{0: 0}] * 20


def test_a_bound_on_the_steps_changes_nothing_within_it():
    for checkpoints, max_steps in ((3, 9), (3, 5), (4, 14)):
        assert controller.first_saves(checkpoints, max_steps).level is None
        assert run(checkpoints, max_steps, max_steps) == run(checkpoints, max_steps)
    assert run(3, 30, 30) == run(3, 30)


def test_the_number_of_slots_is_not_limited_by_the_range_of_integers():
    saves = controller.first_saves(70_000, None)
    saved, slot, saves = choose(saves, jnp.array(0))
    assert (bool(saved), int(slot), int(saves.steps[0])) == (True, 0, 0)


def test_there_is_one_controller_for_a_batch_of_loops():
    """It never depends on what the loop computes, so under `vmap` it stays without a batch."""

    def steps_held(x):
        def step(step, carry):
            saves, x = carry
            return choose(saves, step)[2], jnp.sin(x)

        return jax.lax.fori_loop(0, 12, step, (controller.first_saves(3, None), x))

    saves, _ = jax.vmap(steps_held, out_axes=(None, 0))(jnp.arange(2.0))
    assert sorted(saves.steps.tolist()) == sorted(run(3, 12)[-1].values())
