import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_nn

X = jr.normal(jr.key(0), (5, 6))


@pytest.fixture(autouse=True)
def _no_tables():
    eqx_core.clear_caches()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rotary_is_the_peers(pair, same_arrays, dtype):
    ours, theirs = pair("RotaryPositionalEmbedding", 6, dtype=jnp.dtype(dtype))
    x = X.astype(dtype)
    same_arrays(ours(x), theirs(x))
    same_arrays(ours.rotate_half(x), theirs.rotate_half(x))
    tables = [rope.precompute_freqs_cis(6, 5, 100.0, jnp.dtype(dtype)) for rope in (ours, theirs)]
    same_arrays(*tables)


@pytest.mark.parametrize("theta", [10_000.0, 100.0])
def test_pairs_of_features_turn_as_complex_numbers(theta):
    pairs = np.asarray(X[:, :3]) + 1j * np.asarray(X[:, 3:])
    angles = np.outer(np.arange(5), theta ** (-np.arange(0, 6, 2) / 6))
    turned = pairs * np.exp(1j * angles)
    out = eqx_nn.RotaryPositionalEmbedding(6, theta)(X)
    np.testing.assert_allclose(out, np.concatenate([turned.real, turned.imag], 1), rtol=1e-4, atol=1e-5)


def test_layers_of_different_theta_have_tables_of_their_own():
    first = eqx_nn.RotaryPositionalEmbedding(6, theta=10.0)(X)
    second = eqx_nn.RotaryPositionalEmbedding(6, theta=1000.0)(X)
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(eqx_nn.RotaryPositionalEmbedding(6, theta=10.0)(X), first)


def test_products_depend_on_the_distance_alone():
    rope = eqx_nn.RotaryPositionalEmbedding(6)
    same = jnp.stack([X[0]] * 5)
    products = rope(same) @ rope(same).T
    np.testing.assert_allclose(products[0, 1], products[3, 4], rtol=1e-4)


def test_longer_and_shorter_sequences_agree():
    rope = eqx_nn.RotaryPositionalEmbedding(6)
    short = rope(X[:2])
    np.testing.assert_array_equal(rope(X)[:2], short)
    np.testing.assert_array_equal(rope(X[:2]), short)


def test_rotations_keep_lengths():
    rope = eqx_nn.RotaryPositionalEmbedding(6)
    np.testing.assert_allclose(jax.grad(lambda x: (rope(x) ** 2).sum() / 2)(X), X, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_default_dtype_is_of_64_bits_where_they_are_enabled():
    rope = eqx_nn.RotaryPositionalEmbedding(6)
    assert rope.dtype == jnp.float64
    assert rope(X.astype(jnp.float64)).dtype == jnp.float64


@pytest.mark.parametrize("size", [-2, 3])
def test_sizes_that_make_no_pairs_are_refused(size):
    with pytest.raises(ValueError, match=f"must be an even number of at least 0; got {size}"):
        eqx_nn.RotaryPositionalEmbedding(size)


@pytest.mark.parametrize("x", [jnp.ones(6), jnp.ones((2, 4)), jnp.ones((2, 2, 6))])
def test_input_of_another_shape_is_refused(x):
    with pytest.raises(ValueError, match=re.escape("must have shape `(seq, embedding_size)` = `(..., 6)`; got")):
        eqx_nn.RotaryPositionalEmbedding(6)(x)


def test_a_clash_of_dtypes_names_both():
    message = (
        r"must be of the dtype of the tables, float32, .* got `bf16\[5,6\]`. Make the layer with `dtype='bfloat16'`"
    )
    with pytest.raises(ValueError, match=message):
        eqx_nn.RotaryPositionalEmbedding(6)(X.astype(jnp.bfloat16))
    with jax.numpy_dtype_promotion("standard"):
        assert eqx_nn.RotaryPositionalEmbedding(6)(X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
