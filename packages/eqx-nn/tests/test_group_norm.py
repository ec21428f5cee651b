import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_nn

KEY = jr.key(0)
DTYPES = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-3}


@pytest.mark.parametrize(
    ("args", "shape", "dtype"),
    [
        *(
            (args, (4, 3), "float32")
            for args in [(1, 4), (2, 4), (4, 4), (2, 4, 0.1), (2, None, 1e-5, False), (2, 4, 1e-5, True, "bfloat16")]
        ),
        ((2, 4), (4,), "float32"),
        ((2, 4), (4, 3, 2), "bfloat16"),
        ((2, 4), (4, 3, 2), "float16"),
        ((2, 4, 1e-5, True, "bfloat16"), (4, 3), "bfloat16"),
    ],
    ids=str,
)
def test_group_norm_is_the_peers(pair, args, shape, dtype):
    ours, theirs = pair("GroupNorm", *args)
    x = (3 + 2 * jr.normal(KEY, shape)).astype(dtype)
    out = ours(x)
    assert out.dtype == x.dtype
    np.testing.assert_allclose(
        *(np.asarray(y, "float32") for y in (out, theirs(x))), rtol=DTYPES[dtype], atol=DTYPES[dtype]
    )


def test_each_group_is_normalised_and_each_channel_scaled():
    x = np.asarray(jr.normal(KEY, (4, 3)))
    norm = eqx_nn.GroupNorm(2, 4)
    norm = jax.tree.unflatten(jax.tree.structure(norm), [jnp.arange(4.0), jnp.arange(4.0) - 2])
    groups = x.reshape(2, 6)
    normal = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-5)
    expected = normal.reshape(4, 3) * np.arange(4)[:, None] + np.arange(4)[:, None] - 2
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-5)


def test_one_group_is_a_layer_norm():
    x = jr.normal(KEY, (4, 3))
    ours = eqx_nn.GroupNorm(1, channelwise_affine=False)(x)
    np.testing.assert_allclose(ours, eqx_nn.LayerNorm((4, 3))(x), rtol=1e-5, atol=1e-6)


def test_a_state_is_handed_on():
    assert eqx_nn.GroupNorm(2, 4)(jnp.ones((4, 2)), None)[1] is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((2,), "`GroupNorm(channels=...)` must be given if `channelwise_affine=True`; got None"),
        ((2, 3), "`GroupNorm(groups=...)` must divide `channels`; got groups=2, channels=3"),
        ((0, 3), "`GroupNorm(groups=...)` must divide `channels`; got groups=0, channels=3"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(args, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.GroupNorm(*args)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [(eqx_nn.GroupNorm(2, 4), "(4, ...)"), (eqx_nn.GroupNorm(2, channelwise_affine=False), "(a multiple of 2, ...)")],
)
@pytest.mark.parametrize("shape", [(), (3, 4), (5,)])
def test_input_of_another_shape_is_refused(norm, expected, shape):
    with pytest.raises(ValueError, match=re.escape(f"must have shape `(channels, ...)` = `{expected}`; got `f32[")):
        norm(jnp.ones(shape))
