import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_filter
import eqx_nn

# More than one chunk of queries, and the last one not full.
QUERIES, HEADS = 301, 2
X = jr.normal(jr.key(1), (QUERIES, 8))
LAYER = eqx_nn.MultiheadAttention(HEADS, 8, use_query_bias=True, key=jr.key(0))
MASKS = {
    "none": None,
    "shared": jr.bernoulli(jr.key(2), 0.7, (QUERIES, QUERIES)),
    "per head": jr.bernoulli(jr.key(3), 0.7, (HEADS, QUERIES, QUERIES)),
    "nothing allowed": jnp.zeros((QUERIES, QUERIES), bool),
}


def _definition(layer, x, mask=None, is_causal=False):
    """Return what attention is by definition, in NumPy and float64."""

    def heads(linear):
        out = np.asarray(x, "float64") @ np.asarray(linear.weight, "float64").T
        out = out if linear.bias is None else out + np.asarray(linear.bias, "float64")
        return out.reshape(len(x), HEADS, -1)

    q, k, v = map(heads, (layer.query_proj, layer.key_proj, layer.value_proj))
    logits = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
    if mask is not None:
        logits = np.where(mask, logits, -1e30)
    if is_causal:
        logits = np.where(np.tril(np.ones(logits.shape[1:], bool)), logits, -1e30)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = np.einsum("hqk,khd->qhd", weights, v).reshape(len(x), -1)
    return out @ np.asarray(layer.output_proj.weight, "float64").T


@pytest.mark.parametrize("implementation", ["auto", "chunked", "xla"])
@pytest.mark.parametrize(("mask", "is_causal"), [*((m, False) for m in MASKS), ("none", True), ("shared", True)])
def test_every_implementation_is_the_definition(implementation, mask, is_causal):
    call = eqx_filter.filter_jit(
        lambda layer, x, mask: layer(x, x, x, mask, is_causal=is_causal, implementation=implementation)
    )
    expected = _definition(LAYER, X, MASKS[mask], is_causal)
    np.testing.assert_allclose(call(LAYER, X, MASKS[mask]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 5, 256, 257])
def test_any_length_will_do(length):
    x = X[:length]
    out = LAYER(x, x, x, implementation="chunked", is_causal=True)
    np.testing.assert_allclose(out, _definition(LAYER, x, is_causal=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("implementation", ["auto", "chunked", "xla"])
def test_no_queries_collect_nothing(implementation):
    assert LAYER(X[:0], X[:5], X[:5], implementation=implementation).shape == (0, 8)


def test_a_short_sequence_may_be_causal_too():
    out = LAYER(X[:5], X[:5], X[:5], is_causal=True)
    np.testing.assert_allclose(out, _definition(LAYER, X[:5], is_causal=True), rtol=1e-4, atol=1e-5)


def _loss(implementation):
    def loss(layer, x):
        return jnp.sum(layer(x, x, x, MASKS["shared"], is_causal=True, implementation=implementation) ** 3)

    return loss


def test_gradients_are_those_of_all_logits_at_once():
    chunked, whole = (eqx_filter.filter_jit(eqx_filter.filter_grad(_loss(i)))(LAYER, X) for i in ("chunked", "xla"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), chunked, whole)


@pytest.mark.parametrize("mask", MASKS)
def test_heads_that_go_together_as_on_a_gpu_are_the_same(mask, monkeypatch):
    def loss(layer, x):
        out = layer(x, x, x, MASKS[mask], is_causal=True, implementation="chunked")
        return jnp.sum(out**3), out

    def found():
        return eqx_filter.filter_jit(eqx_filter.filter_value_and_grad(lambda *args: loss(*args), has_aux=True))(
            LAYER, X
        )

    apart = found()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found(), apart)


def test_forward_mode_and_second_derivatives_hold():
    tangent = jr.normal(jr.key(4), X.shape)

    def derivatives(implementation):
        loss = _loss(implementation)
        _, first = jax.jvp(lambda x: loss(LAYER, x), (X,), (tangent,))
        _, second = jax.jvp(jax.grad(lambda x: loss(LAYER, x)), (X,), (tangent,))
        return first, second

    compiled = jax.jit(derivatives, static_argnums=0)
    for chunked, whole in zip(*map(compiled, ("chunked", "xla")), strict=True):
        np.testing.assert_allclose(chunked, whole, rtol=2e-3, atol=2e-3)


def test_it_maps_over_a_batch():
    batch = jnp.stack([X, 2 * X])
    out = jax.jit(jax.vmap(lambda x: LAYER(x, x, x, implementation="chunked")))(batch)
    np.testing.assert_allclose(out[1], _definition(LAYER, 2 * X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_is_close_to_float32_and_keeps_its_dtype(dtype):
    low = jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx_core.is_inexact_array(leaf) else leaf, LAYER)
    x = X.astype(dtype)
    out = low(x, x, x, implementation="chunked")
    assert out.dtype == dtype
    np.testing.assert_allclose(out.astype("float32"), _definition(LAYER, X), atol=0.05)


def test_the_backward_pass_holds_no_square_of_the_length():
    length, size = 2048, 16
    layer = eqx_nn.MultiheadAttention(HEADS, size, key=jr.key(0))
    x = jax.ShapeDtypeStruct((length, size), jnp.float32)
    lowered = jax.jit(jax.grad(lambda x: jnp.sum(layer(x, x, x) ** 2))).lower(x)
    assert lowered.compile().memory_analysis().temp_size_in_bytes < HEADS * length**2 * 4 / 4


def test_dropped_weights_are_computed_again_but_the_same():
    layer = eqx_nn.MultiheadAttention(HEADS, 8, dropout_p=0.5, key=jr.key(0))
    key = jr.key(5)
    call = eqx_filter.filter_jit(lambda layer, inference: layer(X, X, X, key=key, inference=inference))
    once, again = (call(layer, False) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    np.testing.assert_allclose(call(layer, True), _definition(layer, X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "arguments", "message"),
    [
        (LAYER, {"implementation": "fast"}, 'must be "auto", "chunked", "xla" or "cudnn"; got \'fast\'.'),
        (
            eqx_nn.MultiheadAttention(HEADS, 8, dropout_p=0.5, key=jr.key(0)),
            {"implementation": "chunked", "key": jr.key(0)},
            "must be \"auto\" while attention weights are dropped; got 'chunked'. Leave it out, or pass `inference=True`.",
        ),
        (
            eqx_nn.MultiheadAttention(HEADS, 8, vo_size=3, key=jr.key(0)),
            {"implementation": "xla"},
            'must be "auto" or "chunked" for values of another size than keys, 3 and 4; got \'xla\'.',
        ),
    ],
    ids=["unknown", "dropout", "sizes"],
)
def test_what_an_implementation_cannot_do_is_refused(layer, arguments, message):
    with pytest.raises(ValueError, match=re.escape(f"`MultiheadAttention.__call__(implementation=...)` {message}")):
        layer(X, X, X, **arguments)
