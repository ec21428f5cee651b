"""Attend without ever holding all logits: `chunked_attention`."""

import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

# The logits of so many queries in one head stay in the cache of a CPU.
CHUNK = 256

_KEPT = "eqx_nn.chunked_attention"


def chunked_attention(query: Array, key: Array, value: Array, mask: Array | None, is_causal: bool) -> Array:
    """Return what each query collects in each head, exactly, a chunk of queries at a time, and on CPUs a head at a time.

    For the backward pass what each query collected is kept, with the greatest logit and the sum of exponentials, and the
    logits are computed again: the memory grows with the length, not with its square. Exponentials and their sum are
    computed in at least float32.

    Args:
      query: `[queries, heads, size]`.
      key: `[keys, heads, size]`.
      value: `[keys, heads, value_size]`.
      mask: `bool[queries, keys]`, or `bool[heads, queries, keys]`; False where a query is not to attend to a key. A
        query with nothing to attend to attends to everything alike.
      is_causal: Whether query `i` is to attend to the keys up to `i` alone.

    Returns:
      `[queries, heads, value_size]`.

    Source: Rabe, Staats (2021), arXiv:2112.05682; here over queries alone, whose softmax needs no correction.
    """
    count, _, size = query.shape
    queries = jnp.moveaxis(_chunks(query / math.sqrt(size), 0), 2, 0)
    per_head = mask is not None and mask.ndim == 3
    masks = None if mask is None else _chunks(mask, int(per_head))
    places = _chunks(jnp.arange(count), 0)
    policy = jax.checkpoint_policies.save_only_these_names(_KEPT)
    attend_chunk = jax.checkpoint(_attend_chunk, policy=policy, static_argnums=5)

    def attend_head(head: tuple[Array, Array, Array, Array | None]) -> Array:
        chunks, keys, values, mask = head
        mask = mask if per_head else masks
        return jax.lax.map(lambda chunk: attend_chunk(*chunk, keys, values, is_causal), (chunks, places, mask))

    # The places of keys and values come last, so that no product of the backward pass transposes the logits.
    heads = (queries, key.transpose(1, 2, 0), value.transpose(1, 2, 0), masks if per_head else None)
    # XLA on CPUs takes longer for a stack of products than for one after the other; a GPU is idle in that time.
    out = jax.lax.map(attend_head, heads) if jax.default_backend() == "cpu" else jax.vmap(attend_head)(heads)
    out = jnp.moveaxis(out, 0, 2)
    return out.reshape(out.shape[0] * out.shape[1], *value.shape[1:])[:count]


def _attend_chunk(query: Array, places: Array, mask: Array | None, key: Array, value: Array, is_causal: bool) -> Array:
    """Return `[chunk, value_size]` for `query[chunk, size]`, whose places in the sequence are given, in one head.

    Args:
      query: Divided by the root of `size`.
      places: `[chunk]`.
      mask: `[chunk, keys]`, or None.
      key: `[size, keys]`.
      value: `[value_size, keys]`.
      is_causal: Whether to leave out the keys after each place.
    """
    logits = query @ key
    lowest = jnp.finfo(logits.dtype).min
    if mask is not None:
        logits = jnp.where(mask, logits, lowest)
    if is_causal:
        past = jnp.arange(key.shape[-1])[None] <= places[:, None]
        logits = jnp.where(past, logits, lowest)
    with jax.numpy_dtype_promotion("standard"):
        logits = logits.astype(jnp.result_type(logits.dtype, jnp.float32))
    # A shift cancels out, so it needs no derivative.
    shift = checkpoint_name(jax.lax.stop_gradient(logits.max(-1, keepdims=True)), _KEPT)
    weights = jnp.exp(logits - shift)
    total = checkpoint_name(weights.sum(-1, keepdims=True), _KEPT)
    collected = checkpoint_name((weights.astype(value.dtype) @ value.T).astype(weights.dtype), _KEPT)
    # Dividing what was collected, not each weight, saves a pass over the logits.
    return (collected / total).astype(value.dtype)


def _chunks(x: Array, axis: int) -> Array:
    """Return `x` with an axis of queries, filled up with zeros, split in two: which chunk, and where in it."""
    count = x.shape[axis]
    number = max(1, -(-count // CHUNK))
    length = -(-count // number)
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, number * length - count)
    return jnp.pad(x, widths).reshape(*x.shape[:axis], number, length, *x.shape[axis + 1 :])
