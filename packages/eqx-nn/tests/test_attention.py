import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_nn

KEY = jr.key(0)
Q = jr.normal(jr.key(1), (5, 8))
K, V = jr.normal(jr.key(2), (7, 6)), jr.normal(jr.key(3), (7, 4))
CAUSAL = jnp.tril(jnp.ones((5, 5), bool))
BIASES = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}


def _close(ours, theirs, tolerance=1e-5):
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(
        np.asarray(ours, "float32"), np.asarray(theirs, "float32"), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        BIASES,
        {"key_size": 6, "value_size": 4, "output_size": 3, "qk_size": 5, "vo_size": 7},
        {"num_heads": 3},
        {"dropout_p": 0.5},
        {"dropout_p": 0.5, "inference": True},
        {"dtype": "bfloat16"},
        {"dtype": "float16", **BIASES},
    ],
    ids=str,
)
@pytest.mark.parametrize("mask", [None, "causal", "per head"])
def test_attention_is_the_peers_from_the_same_key(pair, kwargs, mask):
    ours, theirs = pair("MultiheadAttention", **{"num_heads": 2, "query_size": 8, "key": KEY} | kwargs)
    key_, value = (K, V) if "key_size" in kwargs else (Q, Q)
    inputs = [x.astype(ours.query_proj.weight.dtype) for x in (Q, key_, value)]
    shape = (len(Q), len(key_)) if mask == "causal" else (ours.num_heads, len(Q), len(key_))
    mask = None if mask is None else jr.bernoulli(KEY, 0.7, shape)
    _close(ours(*inputs, mask, key=KEY), theirs(*inputs, mask, key=KEY), 1e-5 if "dtype" not in kwargs else 2e-2)


def test_attention_is_its_definition():
    layer = eqx_nn.MultiheadAttention(2, 8, key_size=6, value_size=4, **BIASES, key=KEY)

    def heads(linear, x):
        return (np.asarray(x) @ np.asarray(linear.weight).T + np.asarray(linear.bias)).reshape(len(x), 2, 4)

    q, k, v = heads(layer.query_proj, Q), heads(layer.key_proj, K), heads(layer.value_proj, V)
    logits = np.einsum("qhd,khd->hqk", q, k) / 2
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    out = np.einsum("hqk,khd->qhd", weights, v).reshape(5, 8)
    expected = out @ np.asarray(layer.output_proj.weight).T + np.asarray(layer.output_proj.bias)
    np.testing.assert_allclose(layer(Q, K, V), expected, rtol=1e-4, atol=1e-5)


def test_what_is_masked_has_no_influence():
    layer = eqx_nn.MultiheadAttention(2, 8, key=KEY)
    changed = Q.at[4].set(100.0)
    np.testing.assert_array_equal(layer(Q, Q, Q, CAUSAL)[:4], layer(changed, changed, changed, CAUSAL)[:4])
    per_head = jnp.stack([CAUSAL, CAUSAL])
    np.testing.assert_array_equal(layer(Q, Q, Q, per_head), layer(Q, Q, Q, CAUSAL))


def test_a_query_with_nothing_to_attend_to_attends_to_everything():
    layer = eqx_nn.MultiheadAttention(2, 8, key=KEY)
    out = layer(Q, Q, Q, jnp.zeros((5, 5), bool))
    mean = jax.vmap(layer.output_proj)(jax.vmap(layer.value_proj)(Q)).mean(0)
    np.testing.assert_allclose(out, jnp.stack([mean] * 5), rtol=1e-4, atol=1e-5)


def test_heads_can_be_processed():
    layer = eqx_nn.MultiheadAttention(2, 8, key=KEY)
    rope = jax.vmap(eqx_nn.RotaryPositionalEmbedding(4), in_axes=1, out_axes=1)
    seen = []

    def process(q, k, v):
        seen.append((q.shape, k.shape, v.shape))
        return rope(q), rope(k), v

    out = layer(Q, Q, Q, process_heads=process)
    assert seen == [((5, 2, 4),) * 3]
    assert not np.allclose(out, layer(Q, Q, Q))


def test_dropout_is_drawn_for_each_head_and_obeys_inference():
    layer = eqx_nn.MultiheadAttention(2, 8, dropout_p=0.5, key=KEY)
    quiet = eqx_nn.MultiheadAttention(2, 8, key=KEY)
    np.testing.assert_array_equal(layer(Q, Q, Q, inference=True), quiet(Q, Q, Q))
    np.testing.assert_array_equal(eqx_nn.inference_mode(layer)(Q, Q, Q), quiet(Q, Q, Q))
    assert not np.allclose(layer(Q, Q, Q, key=KEY), quiet(Q, Q, Q))
    with pytest.warns(UserWarning, match=re.escape("`MultiheadAttention.__call__(deterministic=...)` is deprecated")):
        np.testing.assert_array_equal(layer(Q, Q, Q, deterministic=True), quiet(Q, Q, Q))
    with pytest.raises(RuntimeError, match=r"`Dropout.__call__\(key=...\)` must be given"):
        layer(Q, Q, Q)


def test_softmax_of_low_precision_is_computed_in_float32():
    from_half = eqx_nn._attention.dot_product_attention_weights(*(4 * x.astype("float16") for x in (Q, Q)))
    from_single = eqx_nn._attention.dot_product_attention_weights(4 * Q, 4 * Q)
    assert from_half.dtype == jnp.float16
    np.testing.assert_allclose(from_half.astype("float32"), from_single, atol=2e-2)


def test_the_functions_behind_it_are_the_peers(peer):
    mask = jr.bernoulli(KEY, 0.7, (5, 5))
    for ours, theirs in [
        (eqx_nn._attention.dot_product_attention_weights, peer._attention.dot_product_attention_weights),
        (
            lambda q, k, mask: eqx_nn._attention.dot_product_attention(q, k, k, mask),
            lambda q, k, mask: peer._attention.dot_product_attention(q, k, k, mask),
        ),
    ]:
        _close(ours(Q, Q, mask), theirs(Q, Q, mask))
    dropout = eqx_nn.Dropout(0.5)
    out = eqx_nn._attention.dot_product_attention(Q, Q, Q, dropout=dropout, key=KEY)
    _close(out, peer._attention.dot_product_attention(Q, Q, Q, dropout=dropout, key=KEY))


def test_attention_works_under_jit_vmap_and_both_modes_of_differentiation():
    layer = eqx_nn.MultiheadAttention(2, 8, **BIASES, key=KEY)
    xs = jnp.stack([Q, 2 * Q])
    batched = jax.jit(jax.vmap(lambda x: layer(x, x, x, CAUSAL)))(xs)
    np.testing.assert_allclose(batched[1], layer(2 * Q, 2 * Q, 2 * Q, CAUSAL), rtol=1e-4, atol=1e-5)

    def loss(x):
        return (layer(x, x, x, CAUSAL) ** 2).sum()

    np.testing.assert_allclose(jax.jacfwd(loss)(Q), jax.grad(loss)(Q), rtol=1e-3, atol=1e-4)
    arrays = jax.tree.map(lambda x: x if eqx_core.is_array(x) else None, layer)
    assert all(leaf.shape for leaf in jax.tree.leaves(arrays))


def test_keys_and_values_come_in_pairs():
    layer = eqx_nn.MultiheadAttention(2, 8, key=KEY)
    message = "`MultiheadAttention.__call__(key_=...)` must be as long as `value`; got `f32[3,8]` and `f32[5,8]`"
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(Q, Q[:3], Q)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 5), "must have shape `(queries, keys)` = `(5, 5)`, or `(num_heads, queries, keys)`; got `bool[4,5]`"),
        ((5,), "must have shape `(queries, keys)` = `(5, 5)`"),
        ((2, 5, 4), "must have shape `(queries, keys)` = `(5, 5)`"),
        ((3, 5, 5), "must have shape `(num_heads, queries, keys)` with 2 heads; got `bool[3,5,5]`"),
    ],
)
def test_a_mask_of_another_shape_is_refused(shape, message):
    layer = eqx_nn.MultiheadAttention(2, 8, key=KEY)
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(Q, Q, Q, jnp.ones(shape, bool))


def test_processed_heads_keep_their_shapes():
    layer = eqx_nn.MultiheadAttention(2, 8, key=KEY)
    message = r"`MultiheadAttention.__call__\(process_heads=...\)` must not change the shapes of the heads"
    with pytest.raises(ValueError, match=message):
        layer(Q, Q, Q, process_heads=lambda q, k, v: (q[:2], k, v))
