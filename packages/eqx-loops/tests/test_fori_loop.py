"""`fori_loop`: the values and gradients of a Python loop over a range, for bounds known early or late."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_loops

KINDS = {
    "lax": {},
    "bounded": {"base": 3},
    "segmented": {},
    "checkpointed": {"checkpoints": 2},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
reverse_kinds = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lax"])
W = jr.normal(jr.key(0), (3, 3)) / 2
Y = jnp.array([0.5, -0.25, 1.0])


def fori_loop(*args, kind, **kwargs):
    return eqx_loops.fori_loop(*args, kind=kind, **(KINDS[kind] | kwargs))


def step(w, i, y):
    return jnp.tanh(w @ y) + 0.1 * jnp.asarray(i, jnp.float32)


def looped(w, y, lower, upper, kind, **kwargs):
    return (fori_loop(lower, upper, lambda i, y: step(w, i, y), y, kind=kind, **kwargs) ** 2).sum()


def oracle(w, y, lower, upper):
    for i in range(lower, upper):
        y = step(w, i, y)
    return (y**2).sum()


@every_kind
@pytest.mark.parametrize(("lower", "upper"), [(0, 0), (0, 1), (-2, 4), (3, 1)])
def test_known_bounds(kind, lower, upper):
    got = jax.value_and_grad(looped, (0, 1))(W, Y, lower, upper, kind)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6),
        got,
        jax.value_and_grad(oracle, (0, 1))(W, Y, lower, upper),
    )


@reverse_kinds
def test_bounds_that_are_known_when_it_runs(kind):
    gradient = jax.jit(lambda *args: jax.value_and_grad(looped, (0, 1))(*args, kind, max_steps=9))
    for lower, upper in [(0, 0), (0, 9), (-2, 4), (3, 1), (2, jnp.int8(5))]:
        got = gradient(W, Y, jnp.asarray(lower), jnp.asarray(upper))
        expected = jax.value_and_grad(oracle, (0, 1))(W, Y, int(lower), int(upper))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6), got, expected)


@reverse_kinds
def test_a_batch_of_bounds(kind):
    uppers = jnp.array([0, 3, 1])
    got = jax.vmap(jax.grad(lambda w, upper: looped(w, Y, 0, upper, kind, max_steps=4)), (None, 0))(W, uppers)
    np.testing.assert_allclose(got, jnp.stack([jax.grad(oracle)(W, Y, 0, n) for n in (0, 3, 1)]), rtol=2e-5, atol=2e-6)


def test_without_reverse_mode_the_bounds_may_be_anything():
    assert jax.jit(lambda n: fori_loop(0, n, lambda i, x: x + i, 0, kind="lax"))(5) == 10


@reverse_kinds
def test_no_more_than_max_steps_are_taken(kind):
    assert fori_loop(0, 100, lambda i, n: n + 1, 0, kind=kind, max_steps=5) == 5
    assert fori_loop(0, jnp.asarray(100), lambda i, n: n + 1, 0, kind=kind, max_steps=5) == 5


@reverse_kinds
def test_buffers(kind):
    def history(x):
        out = fori_loop(
            1,
            6,
            lambda i, ys: ys.at[i].set(jnp.sin(ys[i - 1])),
            jnp.zeros(6).at[0].set(x),
            kind=kind,
            buffers=lambda ys: ys,
        )
        return out.sum()

    def expected(x):
        total = x
        for _ in range(5):
            x = jnp.sin(x)
            total += x
        return total

    np.testing.assert_allclose(jax.value_and_grad(history)(0.5), jax.value_and_grad(expected)(0.5), rtol=1e-6)


def test_bounds_must_be_integers():
    with pytest.raises(TypeError, match=r"`fori_loop\(upper=...\)` must be an int, .* got `1.5`. Convert it by `int`"):
        fori_loop(0, 1.5, lambda i, x: x, 0.0, kind="segmented", max_steps=2)
    with pytest.raises(TypeError, match=r"`fori_loop\(lower=...\)` must be an int, .* got `i32\[2\]`"):
        fori_loop(jnp.zeros(2, int), 3, lambda i, x: x, 0.0, kind="segmented", max_steps=2)


def test_a_late_bound_needs_max_steps():
    with pytest.raises(ValueError, match=r"max_steps=...\)` must be given for `kind=\"segmented\"`"):
        fori_loop(0, jnp.asarray(3), lambda i, x: x, 0.0, kind="segmented")
