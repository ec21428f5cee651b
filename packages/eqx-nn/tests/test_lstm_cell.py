import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_nn

KEY = jr.key(0)
X, H, C = jr.normal(jr.key(1), (2,)), jr.normal(jr.key(2), (3,)), jr.normal(jr.key(3), (3,))


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16", "complex64"])
def test_lstm_is_the_peers_from_the_same_key(pair, dtype, use_bias):
    ours, theirs = pair("LSTMCell", 2, 3, use_bias, dtype, key=KEY)
    if dtype != "complex64":
        x, h, c = (a.astype(ours.weight_ih.dtype) for a in (X, H, C))
        for a, b in zip(ours(x, (h, c)), theirs(x, (h, c)), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(np.asarray(a, "float32"), np.asarray(b, "float32"), rtol=1e-2 if dtype else 1e-6)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_lstm_is_its_definition():
    cell = eqx_nn.LSTMCell(2, 3, key=KEY)
    gates = (
        np.asarray(cell.weight_ih) @ np.asarray(X) + np.asarray(cell.weight_hh) @ np.asarray(H) + np.asarray(cell.bias)
    )
    i, f, g, o = np.split(gates, 4)
    c = _sigmoid(f) * np.asarray(C) + _sigmoid(i) * np.tanh(g)
    new_h, new_c = cell(X, (H, C))
    np.testing.assert_allclose(new_c, c, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new_h, _sigmoid(o) * np.tanh(c), rtol=1e-5, atol=1e-6)


def test_lstm_works_under_jit_vmap_scan_and_grad():
    cell = eqx_nn.LSTMCell(2, 3, key=KEY)
    xs = jr.normal(KEY, (4, 2))
    hs, cs = jnp.stack([H] * 4), jnp.stack([C] * 4)
    each = jnp.stack([cell(x, (H, C))[0] for x in xs])
    np.testing.assert_allclose(jax.jit(jax.vmap(cell))(xs, (hs, cs))[0], each, rtol=1e-5, atol=1e-6)

    def last(cell):
        return jax.lax.scan(lambda state, x: (cell(x, state), None), (H, C), xs)[0][0].sum()

    assert all(leaf.any() for leaf in jax.tree.leaves(jax.jit(jax.grad(last))(cell)))


@pytest.mark.parametrize(
    ("x", "hidden", "name"),
    [(jnp.ones(3), (H, C), "input"), (X, (jnp.ones(2), C), "hidden"), (X, (H, jnp.ones((3, 1))), "hidden")],
)
def test_input_of_another_shape_is_refused(x, hidden, name):
    with pytest.raises(
        ValueError, match=re.escape(f"`LSTMCell.__call__({name}=...)` must have shape `({name}_size,)`")
    ):
        eqx_nn.LSTMCell(2, 3, key=KEY)(x, hidden)
