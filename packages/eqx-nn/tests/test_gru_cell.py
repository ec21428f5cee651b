import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_nn

KEY = jr.key(0)
X, H = jr.normal(jr.key(1), (2,)), jr.normal(jr.key(2), (3,))


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16", "complex64"])
def test_gru_is_the_peers_from_the_same_key(pair, dtype, use_bias):
    ours, theirs = pair("GRUCell", 2, 3, use_bias, dtype, key=KEY)
    if dtype != "complex64":
        x, h = X.astype(ours.weight_ih.dtype), H.astype(ours.weight_ih.dtype)
        a, b = ours(x, h), theirs(x, h)
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a, "float32"), np.asarray(b, "float32"), rtol=1e-6)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_gru_is_its_definition():
    cell = eqx_nn.GRUCell(2, 3, key=KEY)
    x, h = np.asarray(X), np.asarray(H)
    w, u, b = (np.split(np.asarray(p), 3) for p in (cell.weight_ih, cell.weight_hh, cell.bias))
    r, z = (_sigmoid(w[i] @ x + b[i] + u[i] @ h) for i in (0, 1))
    n = np.tanh(w[2] @ x + b[2] + r * (u[2] @ h + np.asarray(cell.bias_n)))
    np.testing.assert_allclose(cell(X, H), (1 - z) * n + z * h, rtol=1e-5, atol=1e-6)


def test_gru_works_under_jit_vmap_scan_and_grad():
    cell = eqx_nn.GRUCell(2, 3, key=KEY)
    xs, hs = jr.normal(KEY, (4, 2)), jr.normal(KEY, (4, 3))
    each = jnp.stack([cell(x, h) for x, h in zip(xs, hs, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(cell))(xs, hs), each, rtol=1e-5, atol=1e-6)

    def last(cell):
        return jax.lax.scan(lambda h, x: (cell(x, h), None), H, xs)[0].sum()

    gradient = jax.jit(jax.grad(last))(cell)
    assert all(leaf.any() for leaf in jax.tree.leaves(gradient))
    looped = H
    for x in xs:
        looped = cell(x, looped)
    np.testing.assert_allclose(last(cell), looped.sum(), rtol=1e-5)


def test_an_empty_state_is_allowed():
    assert eqx_nn.GRUCell(2, 0, key=KEY)(X, jnp.zeros(0)).shape == (0,)


@pytest.mark.parametrize(("x", "h", "name"), [(jnp.ones(3), H, "input"), (X, jnp.ones((2, 3)), "hidden")])
def test_input_of_another_shape_is_refused(x, h, name):
    with pytest.raises(ValueError, match=re.escape(f"`GRUCell.__call__({name}=...)` must have shape `({name}_size,)`")):
        eqx_nn.GRUCell(2, 3, key=KEY)(x, h)
