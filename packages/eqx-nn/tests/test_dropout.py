import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core
import eqx_nn

KEY = jr.key(0)
X = jnp.arange(1.0, 9.0)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0, 0, 1])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "complex64"])
def test_dropout_is_the_peers_from_the_same_key(pair, same_arrays, p, dtype):
    ours, theirs = pair("Dropout", p)
    assert jax.tree.leaves(ours) == jax.tree.leaves(theirs)
    if type(p) is float or p == 0:
        same_arrays(ours(X.astype(dtype), key=KEY), theirs(X.astype(dtype), key=KEY))


@given(p=st.floats(0, 1), seed=st.integers(0, 2**31 - 1))
def test_entries_are_dropped_or_scaled(p, seed):
    out = np.asarray(eqx_nn.Dropout(p)(X, key=jr.key(seed)))
    kept = out != 0
    np.testing.assert_allclose(out[kept], np.asarray(X)[kept] / (1 - p), rtol=1e-5)


def test_the_mean_stays_what_it_is():
    out = eqx_nn.Dropout(0.3)(jnp.ones(20_000), key=KEY)
    assert abs(float(out.mean()) - 1) < 0.02
    assert abs(float((out == 0).mean()) - 0.3) < 0.02


@pytest.mark.parametrize("dropout", [eqx_nn.Dropout(0.5, inference=True), eqx_nn.Dropout(0), eqx_nn.Dropout(0.0)])
def test_nothing_is_dropped_and_no_key_needed(dropout):
    assert dropout(X) is X


def test_the_call_overrules_the_layer():
    assert eqx_nn.Dropout(0.5)(X, inference=True) is X
    out = eqx_nn.Dropout(0.5, inference=True)(X, key=KEY, inference=False)
    np.testing.assert_array_equal(out, eqx_nn.Dropout(0.5)(X, key=KEY))


def test_both_fields_are_leaves():
    dropout = eqx_core.tree_at(lambda d: (d.p, d.inference), eqx_nn.Dropout(), (0.1, True))
    assert (dropout.p, dropout.inference) == (0.1, True)


def test_probability_may_be_an_array():
    number = eqx_nn.Dropout(0.25)(X, key=KEY)
    array = jax.jit(lambda d, x: eqx_nn.Dropout(d)(x, key=KEY))(jnp.array(0.25), X)
    np.testing.assert_allclose(array, number, rtol=1e-6)
    assert eqx_nn.Dropout(jnp.array(0.25))(X.astype(jnp.bfloat16), key=KEY).dtype == jnp.bfloat16
    assert jax.grad(lambda p: eqx_nn.Dropout(p)(X, key=KEY).sum())(0.25) == 0


def test_gradient_flows_through_what_is_kept():
    for p in (0.5, 1.0):
        out = eqx_nn.Dropout(p)(X, key=KEY)
        gradient = jax.grad(lambda x, p=p: eqx_nn.Dropout(p)(x, key=KEY).sum())(X)
        np.testing.assert_array_equal(gradient, out / X)


def test_each_example_of_a_batch_has_its_own_mask():
    keys = jr.split(KEY, 3)
    out = jax.vmap(lambda x, key: eqx_nn.Dropout()(x, key=key))(jnp.stack([X] * 3), keys)
    np.testing.assert_array_equal(out, jnp.stack([eqx_nn.Dropout()(X, key=key) for key in keys]))
    assert not (out[0] == out[1]).all()


def test_a_missing_key_is_reported():
    message = "`Dropout.__call__(key=...)` must be given in training; got None"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        eqx_nn.Dropout(0.5)(X)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match=re.escape(f"`Dropout(p=...)` must be a probability, from 0 to 1; got {p}")):
        eqx_nn.Dropout(p)


def test_the_old_name_of_inference_warns():
    with pytest.warns(UserWarning, match=re.escape("`Dropout(deterministic=...)` is deprecated")):
        dropout = eqx_nn.Dropout(deterministic=True)
    assert dropout.inference is dropout.deterministic is True
    with pytest.warns(UserWarning, match=re.escape("`Dropout.__call__(deterministic=...)` is deprecated")):
        assert eqx_nn.Dropout()(X, deterministic=True) is X
