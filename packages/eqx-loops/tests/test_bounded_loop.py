"""Kind "bounded": derivatives in both modes."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_filter
from eqx_loops import while_loop


def run(w, x, steps, **options):
    def body(carry):
        return carry[0] + 1, jnp.sin(w * carry[1])

    return while_loop(lambda carry: carry[0] < steps, body, (0, x), kind="bounded", **options)[1]


def unrolled(w, x, steps):
    for _ in range(int(steps)):
        x = jnp.sin(w * x)
    return x


@functools.cache
def gradient(max_steps, base):
    return jax.jit(jax.grad(lambda w, x, steps: run(w, x, steps, max_steps=max_steps, base=base), (0, 1)))


@pytest.mark.parametrize(("max_steps", "base"), [(1, 2), (2, 2), (5, 2), (9, 3), (10, 3), (20, 16)])
@hypothesis.settings(max_examples=6)
@hypothesis.given(share=st.floats(0, 1.3), w=st.floats(-2, 2, width=32))
def test_the_gradient_is_that_of_the_unrolled_loop(max_steps, base, share, w):
    steps = round(share * max_steps)
    expected = jax.grad(unrolled, (0, 1))(w, 0.3, min(steps, max_steps))
    np.testing.assert_allclose(gradient(max_steps, base)(w, 0.3, steps), expected, rtol=1e-4, atol=1e-6)


def test_second_derivatives_in_any_order():
    f = functools.partial(run, x=0.3, steps=3, max_steps=4, base=2)
    expected = jax.grad(jax.grad(unrolled))(1.5, 0.3, 3)
    for second in (jax.grad(jax.jacfwd(f)), jax.grad(jax.grad(f)), jax.jacfwd(jax.jacfwd(f))):
        np.testing.assert_allclose(jax.jit(second)(1.5), expected, rtol=1e-4)


def test_it_is_one_while_loop_unless_it_is_differentiated():
    f = functools.partial(run, 2.0, steps=3, max_steps=10_000)
    hlo = jax.jit(f).lower(1.0).as_text()
    assert hlo.count("stablehlo.while") == 1
    assert "stablehlo.case" not in hlo
    assert jax.jit(jax.grad(f)).lower(1.0).as_text().count("stablehlo.while") > 2


def test_what_is_kept_grows_with_the_logarithm_of_the_number_of_steps():
    def bytes_kept(max_steps):
        f = jax.grad(lambda x: jnp.sum(run(2.0, x, max_steps, max_steps=max_steps, base=4)))
        return jax.jit(f).lower(jnp.ones(1000)).compile().memory_analysis().temp_size_in_bytes

    # 4 states for each power of 4.
    fewer, more = bytes_kept(4**3), bytes_kept(4**5)
    assert more < 2 * 4000 * 4 * 5
    assert more < 2 * fewer


def test_a_step_that_is_not_taken_is_not_run():
    """Where the loop has ended, the derivative of the body may not exist."""

    def f(x):
        return while_loop(lambda y: y > 0.5, lambda y: y - jnp.sqrt(y - 0.5), x, kind="bounded", max_steps=20)

    x = 1.5
    expected = jax.grad(lambda y: y - jnp.sqrt(y - 0.5))(x)
    assert f(x) == 0.5
    np.testing.assert_allclose(jax.grad(f)(x), expected)


def test_what_does_not_move_has_no_tangent():
    def f(w):
        def body(carry):
            x, fixed = carry
            return w * x, eqx_filter.internal.nondifferentiable(fixed) + 1

        return while_loop(lambda _: True, body, (1.0, 0.0), kind="bounded", max_steps=3)[0]

    assert jax.grad(f)(2.0) == 12.0


def test_reads_of_a_buffer_have_gradients():
    def fibonacci(loop, x):
        return loop(x)[-1]

    def by_loop(x):
        def body(c):
            i, buffer = c
            return i + 1, buffer.at[i].set(x * buffer[i - 1] + jnp.sin(buffer[i - 2]))

        start = jnp.zeros(8).at[0].set(x).at[1].set(1.0)
        carry = 2, start
        return while_loop(lambda c: c[0] < 8, body, carry, kind="bounded", max_steps=8, base=2, buffers=lambda c: c[1])[
            1
        ]

    def by_python(x):
        values = [x, jnp.array(1.0)]
        for _ in range(6):
            values.append(x * values[-1] + jnp.sin(values[-2]))
        return values

    value, grad = jax.jit(jax.value_and_grad(functools.partial(fibonacci, by_loop)))(0.7)
    np.testing.assert_allclose(
        (value, grad), jax.value_and_grad(functools.partial(fibonacci, by_python))(0.7), rtol=1e-5
    )
