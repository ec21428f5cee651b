"""Kind "checkpointed": the gradient of a Python loop, with the steps taken again in the order that is specified."""

import functools
import re
import typing

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter.internal import nondifferentiable, nondifferentiable_backward
from eqx_loops import while_loop

checkpointed = functools.partial(while_loop, kind="checkpointed")


def unrolled(cond_fun, body_fun, val, max_steps=None, **_):
    """The oracle: a loop of Python."""
    step = 0
    while step != max_steps and cond_fun(val):
        val, step = body_fun(val), step + 1
    return val


def close(one, other, rtol=2e-4, atol=1e-6):
    jtu.tree_map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), one, other)


class Walker(eqx_core.Module):
    """A carry of all that a carry may hold, and some that has no gradient."""

    position: typing.Any
    velocity: typing.Any
    count: typing.Any
    parity: typing.Any
    nothing: typing.Any
    key: typing.Any


def walk(loop, w, x, steps, **options):
    """Sum up what is left of a walk of many kinds of numbers that also closes over `w` and `x`."""

    def body(walker):
        push = jnp.where(walker.parity, jnp.sin(w @ walker.velocity), jax.lax.stop_gradient(walker.position) * x[0])
        return Walker(
            0.9 * walker.position + push + 0.01 * walker.count.astype(push.dtype),
            jnp.tanh(walker.velocity + w @ walker.position),
            walker.count + 1,
            ~walker.parity,
            None,
            jr.fold_in(walker.key, walker.count),
        )

    first = Walker(x, jnp.ones(2), jnp.array(0), jnp.array(False), None, jr.key(0))
    last = loop(lambda walker: walker.count < steps, body, first, **options)
    return jnp.sum(last.position * jnp.array([1.0, -2.0])) + jnp.sum(last.velocity)


W, X = jnp.array([[0.3, -1.1], [0.7, 0.2]]), jnp.array([0.5, -0.25])


@functools.cache
def gradient_of_walk(checkpoints, max_steps):
    walked = functools.partial(walk, checkpointed, checkpoints=checkpoints, max_steps=max_steps)
    return jax.jit(jax.value_and_grad(lambda w, x, steps: walked(w, x, steps), (0, 1)))


@functools.cache
def expected_of_walk(steps):
    return jax.value_and_grad(lambda w, x: walk(unrolled, w, x, steps), (0, 1))(W, X)


@pytest.mark.parametrize(
    ("checkpoints", "max_steps"),
    [(1, None), (2, None), (3, 50), (4, None), (7, 50), (None, 50), (50, 50), (None, 20), (50, 20), (70, None)],
)
@hypothesis.settings(max_examples=5)
@hypothesis.given(steps=st.integers(0, 50))
def test_the_gradient_is_that_of_the_unrolled_loop(checkpoints, max_steps, steps):
    close(gradient_of_walk(checkpoints, max_steps)(W, X, steps), expected_of_walk(min(steps, max_steps or steps)))


def sines(loop, w, x, steps, **options):
    def body(carry):
        return carry[0] + 1, jnp.sin(w * carry[1])

    return loop(lambda carry: carry[0] < steps, body, (0, x), **options)[1]


@functools.cache
def gradient_of_batch(checkpoints, max_steps, order):
    loop = functools.partial(sines, checkpointed, checkpoints=checkpoints, max_steps=max_steps)
    if order == "vmap of grad":
        return jax.jit(jax.vmap(jax.grad(loop, (0, 1)), (None, 0, 0)))

    def total(w, x, steps):
        # One weight for each element, to have the gradients apart.
        return jnp.sum(jax.vmap(loop)(jnp.broadcast_to(w, x.shape), x, steps))

    return jax.jit(lambda w, x, steps: jax.grad(total, (0, 1))(jnp.full_like(x, w), x, steps))


@pytest.mark.parametrize("order", ["vmap of grad", "grad of vmap"])
@pytest.mark.parametrize(("checkpoints", "max_steps"), [(2, None), (None, 9), (9, 9)])
@hypothesis.settings(max_examples=5)
@hypothesis.given(steps=st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_each_element_of_a_batch_has_its_own_number_of_steps(order, checkpoints, max_steps, steps):
    x = jnp.array([0.3, -1.0, 2.0])
    got = gradient_of_batch(checkpoints, max_steps, order)(1.3, x, jnp.array(steps))
    expected = [jax.grad(functools.partial(sines, unrolled), (0, 1))(1.3, *pair) for pair in zip(x, steps, strict=True)]
    close(got, tuple(jnp.stack(column) for column in zip(*expected, strict=True)))


def test_no_select_is_made_without_a_batch():
    f = jax.grad(lambda x, steps: sines(checkpointed, 1.3, x, steps, checkpoints=6, max_steps=6))
    assert not re.search(r"stablehlo.select.*tensor<f32>", jax.jit(f).lower(0.3, 4).as_text())
    batched = jax.jit(jax.vmap(f)).lower(jnp.ones(2), jnp.array([1, 2]))
    assert re.search(r"stablehlo.select.*tensor<2xf32>", batched.as_text())


@pytest.mark.parametrize(("outer", "inner"), [(2, 1), (5, 2), (6, 5)])
def test_loops_within_loops(outer, inner):
    def f(loop, w, x):
        def body(carry):
            step, x = carry
            _, y = loop(lambda c: c[0] < step, lambda c: (c[0] + 1, jnp.sin(c[1] * w) + x), (0, x), **small)
            return step + 1, y + w

        small, large = {"checkpoints": inner, "max_steps": 5}, {"checkpoints": outer, "max_steps": 6}
        return loop(lambda carry: carry[0] < 4, body, (0, x), **large)[1]

    got = jax.jit(jax.grad(functools.partial(f, checkpointed), (0, 1)))(0.7, 0.3)
    close(got, jax.grad(functools.partial(f, unrolled), (0, 1))(0.7, 0.3))


@pytest.mark.parametrize(("checkpoints", "max_steps"), [(2, None), (5, 5)])
def test_forward_over_reverse(checkpoints, max_steps):
    def f(loop, pair):
        return sines(loop, *pair, 5, checkpoints=checkpoints, max_steps=max_steps)

    pair = jnp.array([1.3, 0.3])
    got, expected = (functools.partial(f, loop) for loop in (checkpointed, unrolled))
    close(jax.jit(jax.hessian(got))(pair), jax.hessian(expected)(pair))
    close(jax.hessian(jax.jit(got))(pair), jax.hessian(expected)(pair))


def test_batched_cotangents():
    x = jnp.array([0.3, -1.0, 2.0])
    f = functools.partial(sines, checkpointed, x=x, steps=5, checkpoints=2)
    close(jax.jacrev(f)(1.3), jax.jacfwd(lambda w: sines(unrolled, w, x, 5))(1.3))


@pytest.mark.parametrize(
    "around",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: lambda x: jax.lax.scan(lambda x, _: (f(x), None), x, length=1)[0],
        lambda f: lambda x: jax.lax.cond(x > 0, f, lambda x: x, x),
        lambda f: lambda x: eqx_filter.filter_closure_convert(f, x)(x),
    ],
    ids=["jit", "checkpoint", "scan", "cond", "closure_convert"],
)
def test_it_is_differentiated_inside_of_other_transformations(around):
    f = around(lambda x: sines(checkpointed, 1.3, x, 5, checkpoints=2))
    close(jax.jit(jax.grad(f))(0.3), jax.grad(lambda x: sines(unrolled, 1.3, x, 5))(0.3))


@pytest.mark.parametrize("options", [{"checkpoints": 2}, {"max_steps": 3, "checkpoints": 3}], ids=["some", "all"])
def test_it_works_without_jit(options):
    with jax.disable_jit():
        got = jax.value_and_grad(lambda x: sines(checkpointed, 1.3, x, 3, **options))(0.3)
        close(got, jax.value_and_grad(lambda x: sines(unrolled, 1.3, x, 3))(0.3))


def test_it_works_in_64_bits_and_in_16():
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        x = jnp.array(0.3, jnp.float64)
        got = jax.grad(lambda x: sines(checkpointed, jnp.float64(1.3), x, 8, checkpoints=3))(x)
        close(got, jax.grad(lambda x: sines(unrolled, jnp.float64(1.3), x, 8))(x), rtol=1e-12)
    x = jnp.array(0.3, jnp.bfloat16)
    got = jax.grad(lambda x: sines(checkpointed, jnp.bfloat16(1.3), x, 5, checkpoints=3))(x)
    assert got == jax.grad(lambda x: sines(unrolled, jnp.bfloat16(1.3), x, 5))(x)


def test_complex_numbers():
    def f(loop, x):
        _, last = loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, jnp.sin(c[1]) * (1 + 1j)), (0, x), checkpoints=2)
        return jnp.abs(last)

    x = jnp.array(0.3 + 0.2j)
    close(jax.grad(functools.partial(f, checkpointed))(x), jax.grad(functools.partial(f, unrolled))(x))


def test_a_loop_of_no_steps_passes_the_cotangents_through():
    for options in ({"checkpoints": 1}, {"max_steps": 3}, {"max_steps": 0}, {"max_steps": 0, "checkpoints": 1}):
        steps = 0 if options.get("max_steps") != 0 else 5
        value, grad = jax.value_and_grad(lambda x: sines(checkpointed, 1.3, x, steps, **options))(0.3)  # noqa: B023
        assert (value, grad) == (np.float32(0.3), 1.0)


def test_more_checkpoints_than_steps_are_allowed_are_as_many():
    def text(checkpoints):
        f = jax.grad(lambda x: sines(checkpointed, 1.3, x, 5, max_steps=8, checkpoints=checkpoints))
        return jax.jit(f).lower(0.3).as_text()

    assert text(8) == text(100)
    # Each step has its slot: nothing is taken again, and nothing sorted.
    assert text(8).count("stablehlo.while") == 2
    assert "sort" not in text(8)
    assert text(7).count("stablehlo.while") > 2


def test_empty_carries():
    assert checkpointed(lambda carry: False, lambda carry: carry, (), checkpoints=2) == ()

    def f(x, nobody):
        def body(carry):
            return carry[0] + 1, carry[1] * 2, carry[2] * 2

        return checkpointed(lambda carry: carry[0] < 4, body, (0, nobody, x), checkpoints=2)

    nobody = jnp.zeros((0, 3))
    assert jax.grad(lambda x: f(x, nobody)[2])(1.0) == 16.0
    assert jax.grad(lambda nobody: jnp.sum(f(1.0, nobody)[1]))(nobody).shape == (0, 3)


def test_it_is_one_while_loop_unless_it_is_differentiated():
    f = functools.partial(sines, checkpointed, 1.3, steps=3, max_steps=100)
    hlo = jax.jit(f).lower(1.0).as_text()
    assert hlo.count("stablehlo.while") == 1
    assert "dynamic_update_slice" not in hlo


def test_forward_mode_is_an_error_of_jax():
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: sines(checkpointed, 1.3, x, 3, checkpoints=2), (0.3,), (1.0,))


# What is differentiated.


def three(x, y):
    """Triple `x` and `y` apart from each other, four times."""

    def body(carry):
        return carry[0] + 1, carry[1] * 3, carry[2] * 3

    return checkpointed(lambda carry: carry[0] < 4, body, (0, x, y), checkpoints=2)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_an_output_that_is_not_perturbed_has_no_tangent(wrap):
    def f(x, y, which):
        out = wrap(three)(x, y)
        return out[1] + 0.0 * nondifferentiable(out[which])

    assert jax.grad(lambda x: f(x, 1.0, which=2))(1.0) == 81.0
    assert jax.jit(jax.grad(lambda x: f(x, 1.0, which=2)))(1.0) == 81.0
    close(jax.vmap(jax.grad(lambda x: f(x, 1.0, which=2)))(jnp.ones(2)), jnp.full(2, 81.0))
    with pytest.raises(RuntimeError, match="Unexpected tangent"):
        jax.grad(lambda x: f(x, 1.0, which=1))(1.0)


def test_what_a_step_does_to_another_part_of_the_carry_is_not_differentiated():
    def f(x, y):
        def body(carry):
            step, x, y, z = carry
            return step + 1, jnp.sin(x), nondifferentiable(y) * 2, nondifferentiable_backward(z) * x

        return checkpointed(lambda carry: carry[0] < 4, body, (0, x, y, y), checkpoints=2)

    close(jax.grad(lambda x: f(x, 1.0)[1])(0.3), jax.grad(lambda x: sines(unrolled, 1.0, x, 4))(0.3))
    with pytest.raises(RuntimeError, match="Unexpected tangent"):
        jax.grad(lambda y: f(1.0, y)[2])(0.3)
    with pytest.raises(RuntimeError, match="Unexpected cotangent"):
        jax.grad(lambda x: f(x, 1.0)[3])(0.3)


def test_what_is_closed_over_gets_no_cotangent_that_is_zero_for_sure():
    def f(w, x):
        w = nondifferentiable_backward(w)

        def body(carry):
            return carry[0] + 1, carry[1] * jax.lax.stop_gradient(w), carry[2] * w

        return checkpointed(lambda carry: carry[0] < 3, body, (0, x, x), checkpoints=2)

    assert jax.grad(lambda w, x: f(w, x)[1], (0, 1))(2.0, 1.0) == (0.0, 8.0)
    with pytest.raises(RuntimeError, match="Unexpected cotangent"):
        jax.grad(lambda w: f(w, 1.0)[2])(2.0)


def test_the_condition_has_no_gradient():
    def f(x, limit):
        return checkpointed(
            lambda y: nondifferentiable(y) < nondifferentiable(limit), lambda y: y * 2, x, checkpoints=2
        )

    assert jax.jit(jax.grad(f, (0, 1)))(1.0, 9.0) == (16.0, 0.0)


def test_nothing_is_run_again_if_no_cotangent_is_needed():
    f = jax.grad(lambda x: jax.lax.stop_gradient(three(x, 1.0)[1]) + three(1.0, x)[1] + x)
    assert f(1.0) == 1.0
    # The two loops themselves at most.
    assert jax.jit(f).lower(1.0).as_text().count("stablehlo.while") <= 2


def test_suites_written_for_equinox_can_see_what_is_differentiated(monkeypatch, capsys):
    monkeypatch.setattr(typing, "TESTING", True, raising=False)
    jax.grad(lambda x: three(x, 1.0)[1])(1.0)
    lines = capsys.readouterr().out.splitlines()
    assert "perturb_val (False, False, False, (False, True, False))" in lines
    assert "symbolic_zero_gradient (True, True, True, (True, False, True))" in lines
    monkeypatch.setattr(typing, "TESTING", False)
    jax.grad(lambda x: three(x, 1.0)[1])(1.0)
    assert capsys.readouterr().out == ""


def test_an_error_in_a_step_is_raised():
    def f(x):
        def body(carry):
            return carry[0] + 1, jnp.sin(eqx_filter.error_if(carry[1], carry[1] > 2, "too large")) + 1

        return checkpointed(lambda carry: carry[0] < 3, body, (0, x), checkpoints=2)[1]

    assert jnp.isfinite(eqx_filter.filter_jit(jax.grad(f))(1.0))
    with pytest.raises(eqx_filter.EqxRuntimeError, match="too large"):
        jax.block_until_ready(eqx_filter.filter_jit(jax.grad(f))(3.0))


# Buffers.


def filled(loop, x, steps, size, **options):
    """Fill a buffer by steps that read what has been written before."""

    def body(carry):
        step, x, buffer = carry
        x = jnp.sin(x) * 1.3 + buffer[0] + buffer[step]
        return step + 1, x, buffer.at[step + 1].set(x)

    first = 0, x, jnp.zeros(size).at[0].set(x)
    _, _, buffer = loop(lambda carry: carry[0] < steps, body, first, **options)
    return jnp.sum(buffer**2 * jnp.arange(float(size)))


@pytest.mark.parametrize(("checkpoints", "max_steps"), [(2, None), (7, 7)])
def test_buffers_are_differentiated(checkpoints, max_steps):
    options = {"checkpoints": checkpoints, "max_steps": max_steps, "buffers": lambda carry: carry[2]}
    f = jax.grad(functools.partial(filled, checkpointed, size=8, **options))
    steps = jnp.array([2, 5, 0])
    expected = jnp.stack([jax.grad(functools.partial(filled, unrolled), 0)(0.3, n, 8) for n in (2, 5, 0)])
    close(jax.jit(jax.vmap(f, (None, 0)))(0.3, steps), expected)
    one_by_one = jax.jit(f)
    close(jnp.stack([one_by_one(0.3, n) for n in steps]), expected)


def test_buffers_are_differentiated_forward_over_reverse():
    f = functools.partial(filled, checkpointed, steps=4, size=8, checkpoints=2, buffers=lambda carry: carry[2])
    close(jax.jit(jax.hessian(f))(0.3), jax.jit(jax.hessian(lambda x: filled(unrolled, x, 4, 8)))(0.3))


def test_buffers_are_neither_kept_nor_copied():
    size = 5000
    f = functools.partial(filled, checkpointed, size=size, max_steps=size - 1, buffers=lambda carry: carry[2])
    compiled = jax.jit(jax.grad(f)).lower(0.3, size - 1).compile()
    # The buffer and its cotangent, and not one for each of the hundred slots.
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * 4 * size


# The order of the steps.

seen = []


@jax.custom_vjp
def told(step, x):
    """Return `x`, and remember `step` when it is taken again, and -1 - `step` when it is gone back over."""
    return x


def told_fwd(step, x):
    jax.debug.callback(lambda step: seen.append(int(step)), step)
    return x, step


def told_bwd(step, bar):
    jax.debug.callback(lambda step: seen.append(-1 - int(step)), step)
    return None, bar


told.defvjp(told_fwd, told_bwd)


@functools.cache
def telling_gradient(loop, checkpoints, max_steps):
    def f(x, steps):
        def body(carry):
            return carry[0] + 1, jnp.sin(told(*carry))

        return loop(
            lambda carry: carry[0] < steps,
            body,
            (0, x),
            kind="checkpointed",
            checkpoints=checkpoints,
            max_steps=max_steps,
        )[1]

    return jax.jit(jax.grad(f))


def order(loop, checkpoints, max_steps, steps):
    seen.clear()
    jax.block_until_ready(telling_gradient(loop, checkpoints, max_steps)(0.3, steps))
    jax.effects_barrier()
    return seen.copy()


@pytest.mark.parametrize(
    ("checkpoints", "steps", "expected"),
    [
        (1, 3, [0, 1, 2, -3, 0, 1, -2, 0, -1]),
        (2, 5, [3, 4, -5, 3, -4, 0, 1, 2, -3, 1, -2, 0, -1]),
        (3, 6, [5, -6, 4, -5, 0, 1, 2, 3, -4, 2, -3, 1, -2, 0, -1]),
        (3, 4, [2, 3, -4, 2, -3, 1, -2, 0, -1]),
        (4, 4, [3, -4, 2, -3, 1, -2, 0, -1]),
    ],
)
def test_the_steps_are_taken_again_in_this_order(checkpoints, steps, expected):
    assert order(while_loop, checkpoints, None, steps) == expected
    assert order(while_loop, checkpoints, 30, steps) == expected


@pytest.mark.parametrize(
    ("checkpoints", "max_steps"), [(1, None), (2, None), (3, 9), (3, 10), (5, None), (None, 40), (12, 12)]
)
def test_the_order_is_that_of_equinox(checkpoints, max_steps):
    theirs = pytest.importorskip("equinox.internal").while_loop
    for steps in [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 20, 21, 22, 40]:
        if max_steps is None or steps <= max_steps:
            assert order(while_loop, checkpoints, max_steps, steps) == order(theirs, checkpoints, max_steps, steps)


def test_memory_grows_with_the_checkpoints_and_not_with_the_steps():
    def bytes_held(steps, checkpoints):
        f = jax.grad(lambda x: jnp.sum(sines(checkpointed, 1.3, x, steps, max_steps=steps, checkpoints=checkpoints)))
        return jax.jit(f).lower(jnp.ones(1000)).compile().memory_analysis().temp_size_in_bytes

    few, many = bytes_held(10_000, 10), bytes_held(10_000, 100)
    assert bytes_held(1_000_000, 10) <= few + 1000
    assert 90 * 4000 <= many - few <= 90 * 4000 * 1.1
