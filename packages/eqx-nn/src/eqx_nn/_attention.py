"""Attend to a sequence: `MultiheadAttention`."""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._chunked_attention import chunked_attention
from ._dropout import Dropout
from ._initialise import Initialiser
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
        _check_mask(mask, logits.shape)
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


Implementation = Literal["auto", "chunked", "xla", "cudnn"]

# For so many queries all logits at once take less time, and little memory.
_SHORT = 128


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
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
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
          weight_init: As for `Linear`, in all four.
          bias_init: Likewise.
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
        linear = functools.partial(Linear, dtype=dtype, weight_init=weight_init, bias_init=bias_init)
        qk_heads, vo_heads = num_heads * qk_size, num_heads * vo_size
        self.query_proj = linear(query_size, qk_heads, use_query_bias, key=keys[0])
        self.key_proj = linear(key_size, qk_heads, use_key_bias, key=keys[1])
        self.value_proj = linear(value_size, vo_heads, use_value_bias, key=keys[2])
        self.output_proj = linear(vo_heads, output_size, use_output_bias, key=keys[3])
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
        is_causal: bool = False,
        implementation: Implementation = "auto",
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
          is_causal: Whether query `i` is to attend to the keys up to `i` alone, besides what `mask` says.
          implementation: How the heads attend. "chunked" is exact, takes a head and a chunk of queries at a time, and keeps
            no logits for the backward pass. "xla" and "cudnn" are those of `jax.nn.dot_product_attention`; the latter is for GPUs and half
            precision. "auto" is "chunked" for long sequences; for short ones, or while weights are dropped, all logits are
            computed at once, and for long ones again for the backward pass.

        Returns:
          `[queries, output_size]`.

        Raises:
          ValueError: There are not as many keys as values; the mask or a processed head has another shape;
            `implementation` is none of the four, or cannot drop weights, or cannot have values of another size than keys.
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
        if mask is not None:
            _check_mask(mask, (len(query), len(key_)), self.num_heads)
        out = self._attend(heads, mask, key, inference, is_causal, implementation)
        return jax.vmap(lambda x: self.output_proj(x.ravel()))(out)

    def _attend(
        self,
        heads: tuple[Array, Array, Array],
        mask: Array | None,
        key: PRNGKeyArray | None,
        inference: bool | None,
        is_causal: bool,
        implementation: Implementation,
    ) -> Array:
        """Return `[queries, num_heads, vo_size]` for three arrays `[queries or keys, num_heads, size]`."""
        drops = self._drops(inference)
        _check_implementation(implementation, drops, heads)
        if implementation in ("xla", "cudnn"):
            mask = mask if mask is None or mask.ndim == 3 else mask[None]
            return jax.nn.dot_product_attention(*heads, mask=mask, is_causal=is_causal, implementation=implementation)
        count = len(heads[0])
        if implementation == "chunked" or (count > _SHORT and not drops):
            return chunked_attention(*heads, mask, is_causal)
        if is_causal:
            causal = jnp.tril(jnp.ones((count, len(heads[1])), bool))
            mask = causal if mask is None else mask & jnp.broadcast_to(causal, mask.shape)

        def attend(query: Array, key_: Array, value: Array, mask: Array | None, key: PRNGKeyArray | None) -> Array:
            return dot_product_attention(query, key_, value, mask, self.dropout, key=key, inference=inference)

        keys = None if key is None else jr.split(key, self.num_heads)
        axes = (1, 1, 1, 0 if mask is not None and mask.ndim == 3 else None, None if keys is None else 0)
        mapped = jax.vmap(attend, in_axes=axes, out_axes=1, axis_size=self.num_heads)
        return (jax.checkpoint(mapped) if count > _SHORT else mapped)(*heads, mask, keys)

    def _drops(self, inference: bool | None) -> bool:
        p = self.dropout.p
        keeps_all = isinstance(p, int | float) and p == 0
        return not (keeps_all or (self.dropout.inference if inference is None else inference))

    def _heads(self, projection: Linear, x: Array) -> Array:
        return jax.vmap(lambda x: projection(x).reshape(self.num_heads, -1))(x)


def _check_mask(mask: Array, shape: tuple[int, ...], heads: int | None = None) -> None:
    """Raise ValueError unless `mask` has this shape, or, if there are heads, one for each."""
    per_head = heads is not None and mask.ndim == 3
    if mask.shape[1:] != shape if per_head else mask.shape != shape:
        raise ValueError(
            f"`MultiheadAttention.__call__(mask=...)` must have shape `(queries, keys)` = `{shape}`, or "
            f"`(num_heads, queries, keys)`; got `{eqx_core.tree_pformat(mask)}`. Broadcast it by `jnp.broadcast_to`."
        )
    if per_head and len(mask) != heads:
        raise ValueError(
            f"`MultiheadAttention.__call__(mask=...)` must have shape `(num_heads, queries, keys)` with {heads} heads; got "
            f"`{eqx_core.tree_pformat(mask)}`. A mask `(queries, keys)` holds for all heads."
        )


def _check_implementation(implementation: str, drops: bool, heads: tuple[Array, Array, Array]) -> None:
    name = "`MultiheadAttention.__call__(implementation=...)`"
    if implementation not in get_args(Implementation):
        raise ValueError(f'{name} must be "auto", "chunked", "xla" or "cudnn"; got {implementation!r}.')
    if implementation != "auto" and drops:
        raise ValueError(
            f'{name} must be "auto" while attention weights are dropped; got {implementation!r}. Leave it out, or pass '
            f"`inference=True`."
        )
    sizes = [x.shape[-1] for x in heads]
    if implementation in ("xla", "cudnn") and sizes[0] != sizes[2]:
        raise ValueError(
            f'{name} must be "auto" or "chunked" for values of another size than keys, {sizes[2]} and {sizes[0]}; got '
            f"{implementation!r}."
        )


def _processed(process_heads: Callable[..., Any], heads: tuple[Array, ...]) -> tuple[Array, ...]:
    processed = tuple(process_heads(*heads))
    if [x.shape for x in processed] != [x.shape for x in heads]:
        raise ValueError(
            f"`MultiheadAttention.__call__(process_heads=...)` must not change the shapes of the heads, "
            f"`{eqx_core.tree_pformat(heads)}`; got `{eqx_core.tree_pformat(processed)}`. Return query, key and value heads."
        )
    return processed
