import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_nn

X = jnp.array([-2.0, -0.0, 0.0, 3.0])


@pytest.mark.parametrize("alpha", [0.25, -1.0, np.float32(2), np.arange(4.0, dtype="float32"), 2])
def test_prelu_is_the_peers(pair, same_arrays, alpha):
    ours, theirs = pair("PReLU", jnp.asarray(alpha))
    same_arrays(ours(X), theirs(X))


def test_negative_entries_are_scaled_by_the_slope():
    np.testing.assert_array_equal(eqx_nn.PReLU()(X), [-0.5, 0, 0, 3])
    np.testing.assert_array_equal(eqx_nn.PReLU(jnp.arange(2.0)[:, None])(X), [[0, 0, 0, 3], [-2, 0, 0, 3]])


def test_the_slope_is_a_parameter():
    assert eqx_nn.PReLU().negative_slope.dtype == jnp.float32
    assert jax.grad(lambda f: f(X).sum())(eqx_nn.PReLU()).negative_slope == -2


def test_dtypes_are_promoted():
    assert eqx_nn.PReLU()(X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert eqx_nn.PReLU(jnp.array(0.25, jnp.float16))(X).dtype == jnp.float32
    assert eqx_nn.PReLU(jnp.array(0.25, jnp.float32))(X.astype(jnp.float16)).dtype == jnp.float32


def test_prelu_works_under_jit_and_vmap():
    np.testing.assert_array_equal(jax.jit(jax.vmap(eqx_nn.PReLU()))(X), eqx_nn.PReLU()(X))
