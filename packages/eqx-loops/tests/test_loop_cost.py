"""`loop_cost` tells what real loops do: it is compared with loops that count their steps, and with compiled programs."""

import jax
import jax.numpy as jnp
import pytest

import eqx_loops
from eqx_loops import loop_cost


def counted(max_steps, steps, **options):
    """Return how many steps a differentiated loop evaluates, the forward pass aside."""
    count = 0

    def tick(_):
        nonlocal count
        count += 1

    def body(carry):
        i, x = carry
        jax.debug.callback(tick, i)
        return i + 1, jnp.sin(x)

    def run(x):
        return eqx_loops.while_loop(lambda carry: carry[0] < steps, body, (0, x), max_steps=max_steps, **options)[1]

    jax.block_until_ready(jax.jit(jax.grad(run))(0.5))
    jax.effects_barrier()
    return count - steps


@pytest.mark.parametrize(
    ("max_steps", "steps", "options"),
    [
        (30, 30, {"kind": "checkpointed"}),
        (30, 30, {"kind": "checkpointed", "checkpoints": 3}),
        (30, 17, {"kind": "checkpointed", "checkpoints": 4}),
        (60, 60, {"kind": "checkpointed", "checkpoints": 5}),
        (9, 9, {"kind": "checkpointed", "checkpoints": 1}),
        (9, 9, {"kind": "checkpointed", "checkpoints": 9}),
        (9, 5, {"kind": "checkpointed", "checkpoints": 20}),
        (30, 30, {"kind": "segmented"}),
        (30, 7, {"kind": "segmented", "levels": 3}),
        (9, 9, {"kind": "segmented", "levels": 1}),
        (30, 30, {"kind": "bounded", "base": 3}),
        (30, 7, {"kind": "bounded"}),
    ],
)
def test_recomputed_steps_are_those_of_a_real_loop(max_steps, steps, options):
    assert loop_cost(max_steps, steps=steps, **options).recomputed == counted(max_steps, steps, **options)


def test_the_default_repeats_no_step_more_than_twice():
    for n in (10, 1000, 10_000):
        assert loop_cost(n, kind="checkpointed").recomputed <= 2 * n


def test_more_checkpoints_repeat_less():
    costs = [loop_cost(1000, kind="checkpointed", checkpoints=c).recomputed for c in (5, 10, 30, 100, 1000)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == 1000


@pytest.mark.parametrize("kind", ["checkpointed", "segmented"])
def test_bytes_are_those_that_the_program_has_more_of(kind):
    """Twice as wide a carry, and the program has as many bytes more as are said to be held."""
    options = {"checkpoints": 50} if kind == "checkpointed" else {"levels": 3}

    def program_bytes(width):
        def run(x):
            return eqx_loops.while_loop(lambda _: True, jnp.sin, x, max_steps=8000, kind=kind, **options).sum()

        return jax.jit(jax.grad(run)).lower(jnp.ones(width)).compile().memory_analysis().temp_size_in_bytes

    width = 1000
    held = [loop_cost(8000, kind=kind, carry=jnp.zeros(w), **options) for w in (width, 2 * width)]
    more = held[1].bytes_held - held[0].bytes_held + held[0].residuals * 4 * width
    assert more <= program_bytes(2 * width) - program_bytes(width) <= 1.25 * more


def test_a_carry_may_be_types_and_numbers():
    carry = {"x": jax.ShapeDtypeStruct((3, 5), jnp.bfloat16), "flag": True, "none": None, "n": 3}
    assert loop_cost(100, kind="segmented", carry=carry).bytes_held == 10 * (30 + 1 + 4)


def test_no_steps_cost_nothing():
    for kind in ("bounded", "checkpointed", "segmented"):
        assert loop_cost(0, kind=kind, carry=1.0) == (0, 0, 0, 0)
        assert loop_cost(5, steps=0, kind=kind).recomputed == 0


def test_errors_say_what_is_allowed():
    with pytest.raises(
        ValueError, match=r"`loop_cost\(kind=...\)` must be 'bounded', 'checkpointed' or 'segmented'; got 'lax'"
    ):
        loop_cost(3, kind="lax")
    with pytest.raises(ValueError, match=r"`loop_cost\(steps=...\)` must be a Python int, from 0 to 3; got `4`. Write"):
        loop_cost(3, kind="segmented", steps=4)
    with pytest.raises(ValueError, match=r"`loop_cost\(checkpoints=...\)` must be a Python int, at least 1; got `0`"):
        loop_cost(3, kind="checkpointed", checkpoints=0)
