"""Kind "lax": JAX's own while loop, with forward-mode derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqx_loops import while_loop


def run(w, x, steps):
    def body(carry):
        return carry[0] + 1, jnp.sin(w * carry[1])

    return while_loop(lambda carry: carry[0] < steps, body, (0, x), kind="lax")[1]


def unrolled(w, x, steps):
    for _ in range(int(steps)):
        x = jnp.sin(w * x)
    return x


@pytest.mark.parametrize("steps", [0, 1, 6])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_the_tangent_is_that_of_the_unrolled_loop(steps, wrap):
    args, tangents = (1.5, jnp.array([0.1, 0.2])), (1.0, jnp.array([2.0, 3.0]))
    out = wrap(lambda *args: jax.jvp(lambda *xs: run(*xs, steps), args, tangents))(*args)
    expected = jax.jvp(lambda *xs: unrolled(*xs, steps), args, tangents)
    for each, other in zip(out, expected, strict=True):
        np.testing.assert_allclose(each, other, rtol=1e-5)


def test_the_tangent_in_a_batch():
    steps, ws = jnp.array([0, 1, 6]), jnp.array([0.5, 1.5, 2.5])
    tangents = jax.vmap(jax.jacfwd(run), (0, None, 0))(ws, 0.3, steps)
    expected = [jax.jacfwd(unrolled)(w, 0.3, n) for w, n in zip(ws, steps, strict=True)]
    np.testing.assert_allclose(tangents, expected, rtol=1e-5)


def test_it_is_one_while_loop_in_the_program():
    jaxpr = jax.make_jaxpr(lambda x: run(2.0, x, 3))(1.0)
    assert [eqn.primitive.name for eqn in jaxpr.eqns].count("while") == 1


def test_reverse_mode_is_an_error():
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(run)(1.5, 0.2, 3)


def test_it_may_never_be_told_how_long_it_takes():
    assert while_loop(lambda x: x < 1000, lambda x: 2 * x, 1, kind="lax") == 1024
