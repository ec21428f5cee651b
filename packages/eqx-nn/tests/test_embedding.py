import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_nn

KEY = jr.key(0)
TABLE = jnp.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16", "complex64"])
def test_embedding_is_the_peers_from_the_same_key(pair, same_arrays, dtype):
    ours, theirs = pair("Embedding", 5, 3, dtype=dtype, key=KEY)
    same_arrays(ours(2), theirs(2))


def test_embedding_of_a_table_is_the_peers(pair, same_arrays):
    ours, theirs = pair("Embedding", weight=TABLE)
    same_arrays(ours(-1), theirs(-1))
    pair("Embedding", 3, 2, TABLE)


@pytest.mark.parametrize("index", [1, -2, np.int32(1), np.array(1, np.uint8), jnp.array(1)])
def test_an_integer_gives_a_row(index):
    np.testing.assert_array_equal(eqx_nn.Embedding(weight=TABLE)(index), [2, 3])


def test_sizes_may_be_zero():
    assert eqx_nn.Embedding(0, 2, key=KEY).weight.shape == (0, 2)


def test_gradient_reaches_the_row_alone():
    gradient = jax.grad(lambda e: e(1).sum())(eqx_nn.Embedding(weight=TABLE)).weight
    np.testing.assert_array_equal(gradient, [[0, 0], [1, 1], [0, 0]])


def test_embedding_works_under_jit_and_vmap():
    rows = jax.jit(jax.vmap(eqx_nn.Embedding(weight=TABLE)))(jnp.array([2, 0]))
    np.testing.assert_array_equal(rows, TABLE[jnp.array([2, 0])])


@pytest.mark.parametrize(
    "kwargs", [{}, {"num_embeddings": 3, "embedding_size": 2}, {"num_embeddings": 3, "key": KEY}, {"key": KEY}]
)
def test_what_is_needed_to_draw_a_table_is_asked_for(kwargs):
    with pytest.raises(ValueError, match=r"`Embedding\(num_embeddings=..., embedding_size=..., key=...\)` must all be"):
        eqx_nn.Embedding(**kwargs)


def test_negative_sizes_are_refused():
    with pytest.raises(ValueError, match="must be at least 0; got -1 and 2"):
        eqx_nn.Embedding(-1, 2, key=KEY)


@pytest.mark.parametrize(("sizes", "table"), [((4, 2), TABLE), ((None, 3), TABLE), ((), TABLE[0]), ((), TABLE[None])])
def test_a_table_of_another_shape_is_refused(sizes, table):
    with pytest.raises(
        ValueError, match=r"`Embedding\(weight=...\)` must have shape `\(num_embeddings, embedding_size\)`"
    ):
        eqx_nn.Embedding(*sizes, *[None] * (2 - len(sizes)), weight=table)


@pytest.mark.parametrize("index", [jnp.array([1]), 1.0, True, jnp.array(1.0), np.ones((2, 2), int)])
def test_what_is_no_index_is_refused(index):
    message = "`Embedding.__call__(x)` must be an integer of shape `()`; got"
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.Embedding(weight=TABLE)(index)
