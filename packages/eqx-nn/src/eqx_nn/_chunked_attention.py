"""Attend without ever holding all logits: `chunked_attention`."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

# The logits of so many queries stay in the cache of a CPU, and fill the units of a GPU.
CHUNK = 128


def chunked_attention(query: Array, key: Array, value: Array, mask: Array | None, is_causal: bool) -> Array:
    """Return what each query collects in each head, exactly, a chunk of queries at a time.

    The logits of a chunk are computed again for the backward pass, so that the memory grows with the length, not with its
    square. Exponentials and their sum are computed in at least float32.

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
    count, heads, size = query.shape
    places = jnp.arange(_padded(count)).reshape(-1, CHUNK)
    queries = _chunks(query / math.sqrt(size), 0).swapaxes(1, 2)
    if mask is not None:
        mask = jnp.broadcast_to(mask, (heads, count, len(key)) if mask.ndim == 3 else (1, count, len(key)))
        mask = jnp.moveaxis(_chunks(mask, 1), 1, 0)
    keys, values = key.transpose(1, 2, 0), value.swapaxes(0, 1)

    def attend(chunk: tuple[Array, Array, Array | None]) -> Array:
        return jax.checkpoint(_attend_chunk, static_argnums=5)(*chunk, keys, values, is_causal)

    out = jax.lax.map(attend, (queries, places, mask))
    return out.swapaxes(1, 2).reshape(-1, heads, value.shape[-1])[:count]


def _attend_chunk(query: Array, places: Array, mask: Array | None, key: Array, value: Array, is_causal: bool) -> Array:
    """Return `[heads, chunk, value_size]` for `query[heads, chunk, size]`, whose places in the sequence are given."""
    logits = query @ key
    lowest = jnp.finfo(logits.dtype).min
    if mask is not None:
        logits = jnp.where(mask, logits, lowest)
    if is_causal:
        past = jnp.arange(key.shape[-1])[None, None] <= places[None, :, None]
        logits = jnp.where(past, logits, lowest)
    with jax.numpy_dtype_promotion("standard"):
        logits = logits.astype(jnp.result_type(logits.dtype, jnp.float32))
    # A shift cancels out, so it needs no derivative.
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    collected = (weights.astype(value.dtype) @ value).astype(weights.dtype)
    # Dividing what was collected, not each weight, saves a pass over the logits.
    return (collected / weights.sum(-1, keepdims=True)).astype(value.dtype)


def _padded(count: int) -> int:
    return -(-count // CHUNK) * CHUNK


def _chunks(x: Array, axis: int) -> Array:
    """Return `x` with an axis of queries, filled up with zeros, split in two: which chunk, and where in it."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, _padded(x.shape[axis]) - x.shape[axis])
    shape = (*x.shape[:axis], -1, CHUNK, *x.shape[axis + 1 :])
    return jnp.pad(x, widths).reshape(shape)
