"""The gradient of what a buffer holds at first: that of Python's own loop, where nothing is written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_filter
from eqx_loops import while_loop

KINDS = ["bounded", "checkpointed", "segmented"]
WEIGHTS = jnp.arange(1.0, 6.0)


def fill(buffer, x, steps, *, kind):
    def body(carry):
        i, buffer, x = carry
        return i + 1, buffer.at[2 * i].set(x * x), jnp.sin(x)

    carry = 0, buffer, x
    return while_loop(lambda c: c[0] < steps, body, carry, kind=kind, max_steps=3, buffers=lambda c: c[1])[1]


def fill_by_python(buffer, x, steps):
    for i in range(int(steps)):
        buffer, x = buffer.at[2 * i].set(x * x), jnp.sin(x)
    return buffer


def loss(filled):
    return jnp.sum(WEIGHTS * filled**2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_gradient_is_that_of_the_unrolled_loop(kind, steps):
    args = WEIGHTS + 1, 0.5
    grads = jax.jit(jax.grad(lambda *args: loss(fill(*args, steps, kind=kind)), (0, 1)))(*args)
    expected = jax.grad(lambda *args: loss(fill_by_python(*args, steps)), (0, 1))(*args)
    for grad, other in zip(grads, expected, strict=True):
        np.testing.assert_allclose(grad, other, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_in_a_batch(kind):
    steps = jnp.array([0, 1, 3])
    buffers = jnp.stack([WEIGHTS, 2 * WEIGHTS, 3 * WEIGHTS])

    def of_one(buffer, steps):
        return loss(fill(buffer, 0.5, steps, kind=kind))

    grads = jax.jit(jax.vmap(jax.grad(of_one)))(buffers, steps)
    expected = [
        jax.grad(lambda buffer, n=n: loss(fill_by_python(buffer, 0.5, n)))(buffer)
        for buffer, n in zip(buffers, steps, strict=True)
    ]
    np.testing.assert_allclose(grads, jnp.stack(expected), rtol=1e-5)


def test_values_that_look_like_first_contents_or_are_no_numbers():
    def f(buffer):
        def body(carry):
            i, buffer = carry
            return i + 1, buffer.at[i].set(jnp.array([0.0, 1.0, jnp.nan])[i])

        carry = while_loop(lambda c: c[0] < 3, body, (0, buffer), kind="bounded", max_steps=3, buffers=lambda c: c[1])
        return jnp.sum(jnp.array([1.0, 1.0, 0.0, 1.0]) * jnp.nan_to_num(carry[1]))

    assert jax.grad(f)(jnp.ones(4)).tolist() == [0.0, 0.0, 0.0, 1.0]


def test_forward_mode_and_second_derivatives():
    def f(buffer):
        return loss(fill(buffer, 0.5, 2, kind="bounded"))

    def expected(buffer):
        return loss(fill_by_python(buffer, 0.5, 2))

    tangents = [jax.jvp(g, (WEIGHTS,), (jnp.ones(5),)) for g in (f, expected)]
    np.testing.assert_allclose(*tangents, rtol=1e-6)
    np.testing.assert_allclose(jax.hessian(f)(WEIGHTS), jax.hessian(expected)(WEIGHTS), rtol=1e-6)


def test_no_run_is_added_where_the_first_contents_do_not_move():
    def loops(f, *args):
        return str(jax.make_jaxpr(f)(*args)).count("while[")

    def f(buffer, x):
        return loss(fill(buffer, x, 2, kind="bounded"))

    assert [loops(g, WEIGHTS, 0.5) for g in (f, jax.grad(f, 1), jax.grad(f, 0))] == [1, 0, 2]


def test_buffers_of_integers_have_no_gradient():
    def f(x):
        def body(carry):
            i, buffer, y = carry
            return i + 1, buffer.at[i].set(i), x * y

        buffers = {"buffers": lambda c: c[1]}
        return while_loop(lambda c: c[0] < 3, body, (0, jnp.zeros(3, int), x), kind="bounded", max_steps=3, **buffers)

    assert jax.grad(lambda x: f(x)[2])(2.0) == 4 * 2.0**3
    assert eqx_filter.filter_jit(f)(2.0)[1].tolist() == [0, 1, 2]
