import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_nn

X = jr.normal(jr.key(0), (2, 7, 6, 5))


@pytest.mark.parametrize("target", [1, 2, 3, 5])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Avg", "Max"])
def test_adaptive_pools_are_the_peers(pair, kind, axes, target):
    x = X[(slice(None),) * (axes + 1) + (0,) * (3 - axes)]
    ours, theirs = pair(f"Adaptive{kind}Pool{axes}d", target)
    assert ours.operation is theirs.operation
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["Avg", "Max"])
def test_dtypes_are_the_peers(pair, kind, dtype):
    x = (10 * X[..., 0]).astype(dtype)
    ours, theirs = pair(f"Adaptive{kind}Pool2d", (2, 4))
    assert ours(x).dtype == theirs(x).dtype
    np.testing.assert_allclose(ours(x).astype("float32"), theirs(x).astype("float32"), rtol=1e-2, atol=2e-2)


def test_windows_are_the_larger_ones_first():
    x = jnp.arange(8.0)[None]
    np.testing.assert_array_equal(eqx_nn.AdaptiveAvgPool1d(3)(x), [[1, 4, 6.5]])
    np.testing.assert_array_equal(eqx_nn.AdaptiveMaxPool1d(3)(x), [[2, 5, 7]])
    np.testing.assert_array_equal(eqx_nn.AdaptivePool(2, 1, jnp.median)(x), [[1.5, 5.5]])


def test_one_window_is_the_whole():
    np.testing.assert_allclose(eqx_nn.AdaptiveAvgPool3d(1)(X)[:, 0, 0, 0], X.mean((1, 2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(eqx_nn.AdaptiveMaxPool3d((7, 6, 5))(X), X)


def test_gradients_go_to_one_entry_of_each_window():
    pool = eqx_nn.AdaptiveMaxPool2d((2, 3))
    assert jax.jit(jax.grad(lambda x: pool(x).sum()))(X[..., 0]).sum() == 12


@pytest.mark.parametrize("target", [(1, 2, 3), 1.0, "ab"])
def test_targets_that_make_no_sense_are_refused(target):
    with pytest.raises(
        ValueError, match=re.escape("`AdaptivePool(target_shape=...)` must be an integer, or a sequence")
    ):
        eqx_nn.AdaptiveAvgPool2d(target)


def test_a_target_of_nothing_is_refused():
    with pytest.raises(ValueError, match=re.escape("must be at least 1 for each axis; got (2, 0)")):
        eqx_nn.AdaptiveMaxPool2d((2, 0))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 4, 4), (2, 4, 1)])
def test_input_of_another_shape_is_refused(shape):
    message = (
        "`AdaptiveAvgPool2d.__call__(x)` must have shape `(channels, *spatial)`, with 2 spatial axes of at least (2, 2)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.AdaptiveAvgPool2d(2)(jnp.ones(shape))
