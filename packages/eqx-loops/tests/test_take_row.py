"""A row is read, and its cotangent is added where it lies."""

import jax
import jax.numpy as jnp
import numpy as np

import eqx_loops._take_row

take_row = eqx_loops._take_row.take_row

X = jnp.arange(12.0).reshape(4, 3)


def weighted(x, index):
    same, row = take_row(x, index)
    return (same**2).sum() + jnp.sin(row).sum()


def expected(x, index):
    return (x**2).sum() + jnp.sin(x[index]).sum()


def test_it_returns_the_array_and_the_row():
    same, row = jax.jit(take_row)(X, 2)
    np.testing.assert_array_equal(same, X)
    np.testing.assert_array_equal(row, X[2])


def test_its_derivatives_are_those_of_indexing():
    for transform in (jax.grad, jax.jacfwd, jax.hessian):
        np.testing.assert_allclose(transform(weighted)(X, 1), transform(expected)(X, 1), rtol=1e-6)


def test_a_cotangent_of_one_of_the_two_alone():
    row_alone = jax.grad(lambda x: take_row(x, 1)[1].sum())(X)
    np.testing.assert_array_equal(row_alone, jnp.zeros_like(X).at[1].set(1.0))
    array_alone = jax.grad(lambda x: take_row(x, 1)[0].sum())(X)
    np.testing.assert_array_equal(array_alone, jnp.ones_like(X))


def test_batches():
    xs, indices = jnp.stack([X, -X]), jnp.array([3, 0])
    for axes in ((0, 0), (0, None), (None, 0)):
        args = xs if axes[0] == 0 else X, indices if axes[1] == 0 else 2
        ours, theirs = (jax.vmap(jax.grad(f), axes)(*args) for f in (weighted, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_integers_have_no_derivative():
    assert jax.grad(lambda x: x * take_row(jnp.arange(3), 1)[1].astype(float))(2.0) == 1
