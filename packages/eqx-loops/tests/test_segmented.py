"""Segmented loops: their values and gradients are those of a Python loop, whatever the steps and the levels."""

import functools
import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import example, given, settings

import eqx_core
import eqx_filter
import eqx_loops
import eqx_loops._segmented
from eqx_filter.internal import nondifferentiable, nondifferentiable_backward

segment_lengths = eqx_loops._segmented.segment_lengths

segmented = functools.partial(eqx_loops.while_loop, kind="segmented")
W = jr.normal(jr.key(0), (3, 3)) / 2
Y = jnp.array([0.5, -0.25, 1.0])


def close(one, other, rtol=2e-5, atol=2e-6):
    jtu.tree_map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), one, other)


def unrolled(cond_fun, body_fun, val, max_steps):
    """The oracle: a loop of Python, with concrete carries or with the number of steps known."""
    for _ in range(max_steps):
        if not cond_fun(val):
            break
        val = body_fun(val)
    return val


def step(w, y):
    return jnp.tanh(w @ y) + 0.5 * y


def looped(w, y, steps, max_steps, levels):
    """Take `steps` steps, of a body that closes over `w`."""
    _, y = segmented(
        lambda carry: carry[0] < steps,
        lambda carry: (carry[0] + 1, step(w, carry[1])),
        (0, y),
        max_steps=max_steps,
        levels=levels,
    )
    return (y**2).sum()


def oracle(w, y, steps, max_steps):
    for _ in range(min(steps, max_steps)):
        y = step(w, y)
    return (y**2).sum()


gradient = jax.jit(jax.value_and_grad(looped, (0, 1)), static_argnames=("max_steps", "levels"))


@pytest.mark.parametrize(
    ("max_steps", "levels"),
    [(1, 1), (1, 2), (1, 3), (2, 2), (3, 2), (5, 2), (5, 3), (10, 1), (10, 2), (27, 3), (30, 4)],
)
def test_gradients_are_those_of_the_python_loop(max_steps, levels):
    for steps in {0, 1, 2, max_steps // 2, max_steps - 1, max_steps, max_steps + 1}:
        got = gradient(W, Y, steps, max_steps=max_steps, levels=levels)
        close(got, jax.value_and_grad(oracle, (0, 1))(W, Y, steps, max_steps))


@given(steps=st.integers(0, 50), levels=st.sampled_from([1, 2, 3]), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_gradients_are_those_of_the_python_loop_for_random_data(steps, levels, seed):
    w, y = jr.normal(jr.key(seed), (3, 3)) / 2, jr.normal(jr.key(seed + 1), (3,))
    got = gradient(w, y, steps, max_steps=50, levels=levels)
    close(got, jax.value_and_grad(oracle, (0, 1))(w, y, steps, 50), rtol=1e-4, atol=1e-5)


@given(max_steps=st.integers(1, 10**6), levels=st.integers(1, 6))
@example(10_000, 2)
def test_segments_are_multiples_of_their_parts_and_cover_all_steps(max_steps, levels):
    lengths = segment_lengths(max_steps, levels)
    assert len(lengths) == levels + 1
    assert lengths[0] == max_steps
    assert lengths[-1] == 1
    assert all(length % part == 0 for length, part in itertools.pairwise(lengths[1:]))
    # As few for each level as there can be.
    slots = [-(-length // part) for length, part in itertools.pairwise(lengths)]
    assert (max(slots) - 1) ** levels < max_steps


def test_ten_thousand_steps_have_a_hundred_segments():
    assert segment_lengths(10_000, 2) == [10_000, 100, 1]
    assert segment_lengths(1000, 3) == [1000, 100, 10, 1]


class Model(eqx_core.Module):
    weight: jax.Array
    shift: jax.Array | None
    name: str = eqx_core.field(static=True, default="model")

    def __call__(self, x):
        return jnp.tanh(self.weight @ x)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_carry_may_be_anything_that_holds_arrays(levels):
    """Modules, None, bools, ints, keys, nothing, no entries."""

    def cond(carry):
        return carry["count"] < 5

    def body(carry):
        key, now = jr.split(carry["key"])
        model = carry["model"]
        weight = model.weight + 0.1 * jr.normal(now, model.weight.shape)
        return {
            "model": eqx_core.tree_at(lambda m: m.weight, model, weight),
            "x": jnp.where(carry["flip"], model(carry["x"]), carry["x"] + 0.1 * carry["half"].astype(jnp.float32)),
            "half": carry["half"] * jnp.bfloat16(0.5),
            "flip": ~carry["flip"],
            "count": carry["count"] + 1,
            "key": key,
            "none": None,
            "empty": (),
            "no_entries": carry["no_entries"] * 2,
        }

    def loss(run, weight, x):
        init = {
            "model": Model(weight, None),
            "x": x,
            "half": jnp.bfloat16(1.0),
            "flip": jnp.asarray(True),
            "count": jnp.asarray(0),
            "key": jr.key(0),
            "none": None,
            "empty": (),
            "no_entries": jnp.zeros((0, 2)),
        }
        out = run(cond, body, init, max_steps=7)
        return out["x"].sum() + out["model"].weight.sum() + out["no_entries"].sum()

    ours = jax.grad(functools.partial(loss, functools.partial(segmented, levels=levels)), (0, 1))(W, Y)
    close(ours, jax.grad(functools.partial(loss, unrolled), (0, 1))(W, Y))


def test_an_empty_carry_is_returned():
    assert segmented(lambda carry: True, lambda carry: carry, (), max_steps=3) == ()


def test_no_steps_are_allowed():
    value, slope = jax.value_and_grad(lambda x: segmented(lambda _: True, lambda y: 2 * y, x, max_steps=0))(3.0)
    assert (value, slope) == (3.0, 1.0)


def test_what_the_condition_closes_over_has_no_derivative():
    def run(x, limit):
        return segmented(lambda y: y < limit, lambda y: 1.5 * y, x, max_steps=20)

    assert jax.grad(run, (0, 1))(jnp.array(1.0), jnp.array(4.0)) == (1.5**4, 0.0)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_stop_gradient_in_the_body_is_respected(levels):
    def loss(run, x):
        def body(carry):
            y, z = carry
            return jnp.sin(y) + jax.lax.stop_gradient(z), y * jax.lax.stop_gradient(y) + z

        return sum(run(lambda _: True, body, (x, 2 * x), max_steps=4))

    ours = jax.grad(functools.partial(loss, functools.partial(segmented, levels=levels)))(0.3)
    close(ours, jax.grad(functools.partial(loss, unrolled))(0.3))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_batch_may_stop_at_different_steps(levels):
    def loss(run, w, y, limit):
        _, y = run(
            lambda c: c[1].sum() < limit, lambda c: (c[0] + 1, c[1] + jnp.abs(step(w, c[1]))), (0, y), max_steps=9
        )
        return (y**2).sum()

    limits, ys = jnp.array([2.0, 0.0, 30.0, 1e9]), jnp.stack([Y, Y, -Y, 2 * Y])
    ours = jax.vmap(
        jax.grad(functools.partial(loss, functools.partial(segmented, levels=levels)), (0, 1)), (None, 0, 0)
    )
    got = jax.jit(ours)(W, ys, limits)
    alone = [
        jax.grad(functools.partial(loss, unrolled), (0, 1))(W, y, limit) for y, limit in zip(ys, limits, strict=True)
    ]
    close(got, jtu.tree_map(lambda *leaves: jnp.stack(leaves), *alone))


def test_a_batch_of_closures_and_of_cotangents():
    ws = jnp.stack([W, 2 * W])
    ours = jax.vmap(lambda w: jax.grad(looped, 1)(w, Y, 4, 9, 2))(ws)
    close(ours, jnp.stack([jax.grad(oracle, 1)(w, Y, 4, 9) for w in ws]))

    def last(y):
        return segmented(lambda _: True, lambda y: step(W, y), y, max_steps=4)

    def last_unrolled(y):
        return unrolled(lambda _: True, lambda y: step(W, y), y, 4)

    close(jax.jacrev(last)(Y), jax.jacrev(last_unrolled)(Y))


@pytest.mark.parametrize(("outer", "inner"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)])
def test_loops_nest(outer, inner):
    def loss(run_outer, run_inner, w, y):
        def body(carry):
            i, y = carry
            _, y = run_inner(lambda c: c[0] < i + 1, lambda c: (c[0] + 1, step(w, c[1])), (0, y), max_steps=3)
            return i + 1, step(2 * w, y)

        return run_outer(lambda c: c[0] < 4, body, (0, y), max_steps=6)[1].sum()

    runs = (functools.partial(segmented, levels=levels) for levels in (outer, inner))
    ours = jax.jit(jax.grad(functools.partial(loss, *runs), (0, 1)))(W, Y)
    close(ours, jax.grad(functools.partial(loss, unrolled, unrolled), (0, 1))(W, Y))


@pytest.mark.parametrize("levels", [1, 2])
def test_hessians_go_forward_over_reverse(levels):
    ours = jax.jit(jax.hessian(lambda w, y: looped(w, y, 4, 6, levels), (0, 1)))(W, Y)
    close(ours, jax.hessian(lambda w, y: oracle(w, y, 4, 6), (0, 1))(W, Y), atol=1e-5)


@pytest.mark.parametrize("levels", [1, 2])
def test_forward_mode_is_that_of_the_python_loop(levels):
    def ours(y):
        return looped(W, y, 4, 6, levels)

    def theirs(y):
        return oracle(W, y, 4, 6)

    close(jax.jvp(ours, (Y,), (Y,)), jax.jvp(theirs, (Y,), (Y,)))
    close(jax.jacfwd(jax.jacfwd(ours))(Y), jax.jacfwd(jax.jacfwd(theirs))(Y))


def test_a_second_way_back_is_refused():
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(lambda y: jax.grad(looped, 1)(W, y, 4, 6, 2).sum())(Y)


def test_checkpoint_around_the_loop():
    ours = jax.jit(jax.grad(jax.checkpoint(lambda w: looped(w, Y, 4, 6, 2))))(W)
    close(ours, jax.grad(oracle)(W, Y, 4, 6))


def test_it_runs_without_jit():
    with jax.disable_jit():
        got = jax.value_and_grad(looped, (0, 1))(W, Y, 3, 5, 2)
    close(got, jax.value_and_grad(oracle, (0, 1))(W, Y, 3, 5))


def test_double_precision():
    with jax.enable_x64(True):
        w, y = W.astype(jnp.float64), Y.astype(jnp.float64)
        got = jax.grad(looped, (0, 1))(w, y, 7, 9, 2)
        assert got[0].dtype == jnp.float64
        close(got, jax.grad(oracle, (0, 1))(w, y, 7, 9), rtol=1e-12, atol=1e-12)


# Buffers.


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("batch", [False, True])
def test_buffers_have_the_gradients_of_arrays(levels, batch):
    """Each step reads two earlier places."""

    def loss(run, w, y, steps):
        def body(carry):
            i, ys = carry
            new = jnp.tanh(w @ ys[i]) + 0.5 * ys[jnp.maximum(i - 1, 0)]
            return i + 1, ys.at[i + 1].set(new)

        ys = jnp.zeros((9, 3)).at[0].set(y)
        _, ys = run(lambda c: c[0] < steps, body, (0, ys), max_steps=8)
        return (ys * jnp.arange(27.0).reshape(9, 3)).sum()

    ours = functools.partial(loss, functools.partial(segmented, buffers=lambda c: c[1], levels=levels))
    ours, theirs = jax.grad(ours, (0, 1)), jax.grad(functools.partial(loss, unrolled), (0, 1))
    if batch:
        got = jax.jit(jax.vmap(ours, (None, 0, 0)))(W, jnp.stack([Y, 2 * Y]), jnp.array([3, 8]))
        close(got, jtu.tree_map(lambda *x: jnp.stack(x), theirs(W, Y, 3), theirs(W, 2 * Y, 8)))
    else:
        for steps in (0, 1, 5, 8):
            close(jax.jit(ours)(W, Y, steps), theirs(W, Y, steps))


def test_buffers_are_not_kept_for_each_step():
    """A thousand steps that write into a buffer of a thousand rows: neither a copy for each segment nor for each step."""
    rows, width = 1000, 8

    def loss(w, buffer):
        def body(carry):
            i, y, ys = carry
            y = jnp.tanh(w * y) + ys[jnp.maximum(i - 1, 0)]
            return i + 1, y, ys.at[i].set(y)

        _, _, ys = segmented(
            lambda c: c[0] < rows, body, (0, buffer[0], buffer), max_steps=rows, buffers=lambda c: c[2]
        )
        return (ys**2).sum()

    args = jnp.array(0.5), jnp.zeros((rows, width))
    compiled = jax.jit(jax.grad(loss)).lower(*args).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 6 * args[1].nbytes


# What is differentiated.


def test_what_moves_with_nothing_is_not_differentiated():
    """In the body the counterpart is not differentiable; it is never asked for a derivative."""

    def loss(x, levels):
        def body(carry):
            y, z = carry
            return jnp.sin(y), nondifferentiable(z) + 1

        y, z = segmented(lambda _: True, body, (x, jnp.array(2.0)), max_steps=5, levels=levels)
        return y + jax.lax.stop_gradient(z)

    for levels in (1, 2):
        jax.grad(loss)(0.5, levels)


def test_what_moves_is_differentiated():
    def loss(x):
        def body(carry):
            y, z = carry
            return y, nondifferentiable(z) + y

        return segmented(lambda _: True, body, (x, jnp.array(2.0)), max_steps=5)[1]

    with pytest.raises(RuntimeError, match="Unexpected tangent"):
        jax.grad(loss)(0.5)


def test_what_no_cotangent_reaches_is_not_pulled_back():
    def loss(x, index):
        def body(carry):
            y, z = carry
            return jnp.sin(y), nondifferentiable_backward(z) * y

        return segmented(lambda _: True, body, (x, x), max_steps=5)[index]

    assert jnp.isfinite(jax.grad(lambda x: loss(x, 0))(0.5))
    with pytest.raises(RuntimeError, match="Unexpected cotangent"):
        jax.grad(lambda x: loss(x, 1))(0.5)


def test_cotangents_that_reach_nothing_that_moves_are_dropped():
    def loss(x):
        y, z = segmented(lambda _: True, lambda c: (jnp.sin(c[0]), jnp.cos(c[1])), (x, jnp.array(1.0)), max_steps=3)
        return z + 0 * jax.lax.stop_gradient(y)

    assert jax.grad(loss)(0.5) == 0


# Time and memory.


def steps_taken(fun, *args):
    """Return how often a body that counts itself is evaluated."""
    count = 0

    def counted(x):
        def tick(_):
            nonlocal count
            count += 1

        jax.debug.callback(tick, x[0])
        return x

    jax.block_until_ready(jax.jit(functools.partial(fun, counted))(*args))
    jax.effects_barrier()
    return count


@pytest.mark.parametrize(
    ("steps", "max_steps", "levels"), [(30, 30, 2), (7, 100, 1), (7, 100, 2), (40, 100, 3), (0, 9, 2)]
)
def test_each_level_evaluates_each_step_once(steps, max_steps, levels):
    def loss(counted, y):
        def body(carry):
            return carry[0] + 1, step(W, counted(carry[1]))

        return segmented(lambda c: c[0] < steps, body, (0, y), max_steps=max_steps, levels=levels)[1].sum()

    assert steps_taken(lambda counted, y: jax.grad(lambda y: loss(counted, y))(y), Y) == levels * steps


@pytest.mark.parametrize("levels", [2, 3])
def test_memory_grows_like_the_root_of_the_steps(levels):
    def bytes_held(max_steps):
        fun = jax.jit(jax.grad(looped), static_argnums=(2, 3, 4)).lower(W, Y, max_steps, max_steps, levels)
        return fun.compile().memory_analysis().temp_size_in_bytes

    few, many = bytes_held(2**6), bytes_held(2**18)
    assert many < 1.25 * 2 ** (12 / levels) * few


def test_what_is_the_same_in_each_step_is_kept_once():
    """The exponential of the weight, a residual, does not depend on the carry."""

    def loss(w, y):
        return segmented(lambda _: True, lambda y: jnp.tanh(jnp.exp(w) @ y), y, max_steps=100, levels=1).sum()

    w, y = jnp.zeros((100, 100)), jnp.ones(100)
    compiled = jax.jit(jax.grad(loss)).lower(w, y).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10 * w.nbytes
    close(
        jax.jit(jax.grad(loss))(W, Y),
        jax.grad(lambda w, y: unrolled(lambda _: True, lambda y: jnp.tanh(jnp.exp(w) @ y), y, 100).sum())(W, Y),
    )


def test_a_compiled_function_with_the_loop_is_compiled_once():
    eqx_core.clear_caches()
    traces = []

    @eqx_filter.filter_jit
    def run(y):
        traces.append(y)
        return segmented(lambda _: True, jnp.sin, y, max_steps=5)

    run(jnp.array(1.0))
    run(jnp.array(2.0))
    assert len(traces) == 1


def test_what_is_not_perturbed_has_no_tangent_afterwards():
    def loss(x, index):
        out = segmented(lambda _: True, lambda c: (jnp.sin(c[0]), jnp.cos(c[1])), (x, jnp.array(1.0)), max_steps=3)
        nondifferentiable(out[index])
        return out[0]

    jax.grad(loss)(0.5, 1)
    with pytest.raises(RuntimeError, match="Unexpected tangent"):
        jax.grad(loss)(0.5, 0)
