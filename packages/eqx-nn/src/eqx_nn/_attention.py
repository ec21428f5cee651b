"""Attend to a sequence: `MultiheadAttention`."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._dropout import Dropout
from ._linear import Linear


def dot_product_attention_weights(query: Array, key: Array, mask: Array | None = None) -> Array:
    """Return how much each query attends to each key: the softmax of `query @ key.T / sqrt(size)`.

    The softmax is computed in at least float32.

    Args:
      query: `[queries, size]`.
      key: `[keys, size]`.
      mask: `bool[queries, keys]`; False where a query is not to attend to a key. A query with nothing to attend to
        attends to everything alike.

    Raises:
      ValueError: `mask` has another shape.
    """
    logits = jnp.einsum("qd,kd->qk", query / math.sqrt(query.shape[-1]), key)
    if mask is not None:
        if mask.shape != logits.shape:
            raise ValueError(
                f"`MultiheadAttention.__call__(mask=...)` must have shape `(queries, keys)` = `{logits.shape}`, or "
                f"`(num_heads, queries, keys)`; got `{eqx_core.tree_pformat(mask)}`. Broadcast it by "
                f"`jnp.broadcast_to`."
            )
        logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
    with jax.numpy_dtype_promotion("standard"):
        wide = jnp.result_type(logits.dtype, jnp.float32)
    return jax.nn.softmax(logits.astype(wide)).astype(logits.dtype)


def dot_product_attention(
    query: Array,
    key_: Array,
    value: Array,
    mask: Array | None = None,
    dropout: Dropout | None = None,
    *,
    key: PRNGKeyArray | None = None,
    inference: bool | None = None,
) -> Array:
    """Return for each query the mean of the values, weighted by how much it attends to each key.

    Args:
      query: `[queries, size]`.
      key_: `[keys, size]`.
      value: `[keys, value_size]`.
      mask: `bool[queries, keys]`; False where a query is not to attend to a key.
      dropout: Applied to the weights.
      key: For the dropout.
      inference: For the dropout.

    Returns:
      `[queries, value_size]`.
    """
    weights = dot_product_attention_weights(query, key_, mask)
    if dropout is not None:
        weights = dropout(weights, key=key, inference=inference)
    return jnp.einsum("qk,kd->qd", weights, value)


class MultiheadAttention(eqx_core.Module):
    """Let each query collect values, by how well it matches their keys; several times at once.

    It takes one example, not a batch: map it with `jax.vmap`. For self-attention pass one sequence three times.

    Attributes:
      query_proj, key_proj, value_proj: From the inputs to the heads.
      output_proj: From the heads to the output.
      dropout: Applied to the attention weights.

    Source: Vaswani et al. (2017), arXiv:1706.03762.
    """

    query_proj: Linear
    key_proj: Linear
    value_proj: Linear
    output_proj: Linear
    dropout: Dropout
    num_heads: int = eqx_core.field(static=True)
    query_size: int = eqx_core.field(static=True)
    key_size: int = eqx_core.field(static=True)
    value_size: int = eqx_core.field(static=True)
    output_size: int = eqx_core.field(static=True)
    qk_size: int = eqx_core.field(static=True)
    vo_size: int = eqx_core.field(static=True)
    use_query_bias: bool = eqx_core.field(static=True)
    use_key_bias: bool = eqx_core.field(static=True)
    use_value_bias: bool = eqx_core.field(static=True)
    use_output_bias: bool = eqx_core.field(static=True)

    def __init__(
        self,
        num_heads: int,
        query_size: int,
        key_size: int | None = None,
        value_size: int | None = None,
        output_size: int | None = None,
        qk_size: int | None = None,
        vo_size: int | None = None,
        use_query_bias: bool = False,
        use_key_bias: bool = False,
        use_value_bias: bool = False,
        use_output_bias: bool = False,
        dropout_p: float = 0.0,
        inference: bool = False,
        dtype: Any = None,
        *,
        key: PRNGKeyArray,
    ):
        """Make the four linear maps, each as `Linear` does.

        Args:
          num_heads: How often to attend at once.
          query_size: The size of each query; `key_size`, `value_size` and `output_size` are the same unless given.
          key_size: The size of each key before its linear map.
          value_size: The size of each value before its linear map.
          output_size: The size of each output.
          qk_size: The size of queries and keys in each head; by default `query_size // num_heads`.
          vo_size: The size of values in each head; by default `query_size // num_heads`.
          use_query_bias: Whether the linear map of queries has a bias; likewise the other three.
          use_key_bias: See there.
          use_value_bias: See there.
          use_output_bias: See there.
          dropout_p: How likely an attention weight is dropped.
          inference: Whether to drop none.
          dtype: Of the parameters; by default float64 if 64 bits are enabled, else float32.
          key: Decides the initial parameters.

        Example:
          >>> attention = eqx_nn.MultiheadAttention(num_heads=2, query_size=8, key=jr.key(0))
          >>> x = jnp.ones((5, 8))
          >>> causal = jnp.tril(jnp.ones((5, 5), bool))
          >>> attention(x, x, x, mask=causal).shape
          (5, 8)
        """
        key_size = query_size if key_size is None else key_size
        value_size = query_size if value_size is None else value_size
        output_size = query_size if output_size is None else output_size
        qk_size = query_size // num_heads if qk_size is None else qk_size
        vo_size = query_size // num_heads if vo_size is None else vo_size
        keys = jr.split(key, 4)
        qk_heads, vo_heads = num_heads * qk_size, num_heads * vo_size
        self.query_proj = Linear(query_size, qk_heads, use_query_bias, dtype, key=keys[0])
        self.key_proj = Linear(key_size, qk_heads, use_key_bias, dtype, key=keys[1])
        self.value_proj = Linear(value_size, vo_heads, use_value_bias, dtype, key=keys[2])
        self.output_proj = Linear(vo_heads, output_size, use_output_bias, dtype, key=keys[3])
        self.dropout = Dropout(dropout_p, inference=inference)
        self.num_heads = num_heads
        self.query_size = query_size
        self.key_size = key_size
        self.value_size = value_size
        self.output_size = output_size
        self.qk_size = qk_size
        self.vo_size = vo_size
        self.use_query_bias = use_query_bias
        self.use_key_bias = use_key_bias
        self.use_value_bias = use_value_bias
        self.use_output_bias = use_output_bias

    @jax.named_scope("eqx.nn.MultiheadAttention")
    def __call__(
        self,
        query: Array,
        key_: Array,
        value: Array,
        mask: Array | None = None,
        *,
        key: PRNGKeyArray | None = None,
        inference: bool | None = None,
        deterministic: bool | None = None,
        process_heads: Callable[[Array, Array, Array], tuple[Array, Array, Array]] | None = None,
    ) -> Array:
        """Return what each query has collected.

        Args:
          query: `[queries, query_size]`.
          key_: `[keys, key_size]`.
          value: `[keys, value_size]`.
          mask: `bool[queries, keys]` or `bool[num_heads, queries, keys]`; False where a query is not to attend to a key.
          key: Decides which weights are dropped; needed if the dropout is active. Each head gets a key of its own.
          inference: Whether to drop none; by default as in `dropout`.
          deterministic: The old name of `inference`, deprecated.
          process_heads: Changes the heads before they attend, from three arrays `[queries or keys, num_heads, size]` to
            three of the same shapes: the place for `RotaryPositionalEmbedding`.

        Returns:
          `[queries, output_size]`.

        Raises:
          ValueError: There are not as many keys as values, or the mask or a processed head has another shape.
        """
        if deterministic is not None:
            inference = deterministic
            warnings.warn(
                "`MultiheadAttention.__call__(deterministic=...)` is deprecated in favour of "
                "`MultiheadAttention.__call__(inference=...)`.",
                stacklevel=2,
            )
        if len(key_) != len(value):
            raise ValueError(
                f"`MultiheadAttention.__call__(key_=...)` must be as long as `value`; got `{eqx_core.tree_pformat(key_)}` "
                f"and `{eqx_core.tree_pformat(value)}`. There is one key for each value."
            )
        projections = (self.query_proj, self.key_proj, self.value_proj)
        heads: Any = tuple(map(self._heads, projections, (query, key_, value)))
        if process_heads is not None:
            heads = _processed(process_heads, heads)
        keys = None if key is None else jr.split(key, self.num_heads)
        if mask is not None and mask.ndim == 3 and len(mask) != self.num_heads:
            raise ValueError(
                f"`MultiheadAttention.__call__(mask=...)` must have shape `(num_heads, queries, keys)` with {self.num_heads} "
                f"heads; got `{eqx_core.tree_pformat(mask)}`. A mask `(queries, keys)` holds for all heads."
            )

        def attend(query: Array, key_: Array, value: Array, mask: Array | None, key: PRNGKeyArray | None) -> Array:
            return dot_product_attention(query, key_, value, mask, self.dropout, key=key, inference=inference)

        mask_axis = 0 if mask is not None and mask.ndim == 3 else None
        axes = (1, 1, 1, mask_axis, None if keys is None else 0)
        arguments: Any = (*heads, mask, keys)
        out = jax.vmap(attend, in_axes=axes, out_axes=1, axis_size=self.num_heads)(*arguments)
        return jax.vmap(self.output_proj)(out.reshape(len(query), -1))

    def _heads(self, projection: Linear, x: Array) -> Array:
        return jax.vmap(projection)(x).reshape(len(x), self.num_heads, -1)


def _processed(process_heads: Callable[..., Any], heads: tuple[Array, ...]) -> tuple[Array, ...]:
    processed = tuple(process_heads(*heads))
    if [x.shape for x in processed] != [x.shape for x in heads]:
        raise ValueError(
            f"`MultiheadAttention.__call__(process_heads=...)` must not change the shapes of the heads, "
            f"`{eqx_core.tree_pformat(heads)}`; got `{eqx_core.tree_pformat(processed)}`. Return query, key and value heads."
        )
    return processed
