"""Encode positions by rotating pairs of features: `RotaryPositionalEmbedding`."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

import eqx_core
import eqx_core.internal

from ._uniform import default_dtype

_TABLES: dict[Any, tuple[Array, Array]] = {}
eqx_core.internal.register_cache(_TABLES.clear)


class RotaryPositionalEmbedding(eqx_core.Module):
    """Rotate each pair of features by an angle that is proportional to the position in the sequence.

    Feature `i` is paired with feature `i + embedding_size / 2`. The tables of angles are kept for the next call, by size,
    theta and dtype.

    Attributes:
      embedding_size: The number of features, even.
      theta: The pairs turn by `theta ** (-2 i / embedding_size)` per position.
      dtype: Of the tables; by default float64 if 64 bits are enabled, else float32.

    Raises:
      ValueError: `embedding_size` is negative or odd.

    Example:
      >>> rope = eqx_nn.RotaryPositionalEmbedding(embedding_size=4)
      >>> print(rope(jnp.ones((1, 4))))
      [[1. 1. 1. 1.]]

    Source: Su et al. (2021), arXiv:2104.09864.
    """

    embedding_size: int = eqx_core.field(static=True)
    theta: float = eqx_core.field(static=True, default=10_000.0)
    dtype: Any = eqx_core.field(static=True, default_factory=default_dtype)

    def __check_init__(self) -> None:
        if self.embedding_size < 0 or self.embedding_size % 2:
            raise ValueError(
                f"`RotaryPositionalEmbedding(embedding_size=...)` must be an even number of at least 0; got "
                f"{self.embedding_size}. The features are rotated in pairs."
            )

    @staticmethod
    def rotate_half(x: Array) -> Array:
        """Return `[seq, size]` with the first half of the features behind the second one, which is negated."""
        first, second = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([-second, first], axis=-1)

    @staticmethod
    def precompute_freqs_cis(embedding_size: int, end: int, theta: float, dtype: Any) -> tuple[Array, Array]:
        """Return cosine and sine of each pair's angle at each position, two arrays `[end, embedding_size / 2]`."""
        exponents = jnp.arange(0.0, embedding_size, 2) / embedding_size
        angles = jnp.outer(jnp.arange(float(end)), 1.0 / theta**exponents)
        return jnp.cos(angles).astype(dtype), jnp.sin(angles).astype(dtype)

    @jax.named_scope("eqx.nn.RotaryPositionalEmbedding")
    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """Return the sequence with its features rotated.

        Args:
          x: `[seq, embedding_size]`.
          key: Ignored.

        Returns:
          An array of the shape and dtype of `x`.

        Raises:
          ValueError: `x` has another shape.
          TypePromotionError: `x` is not of the dtype of the tables, and promotion is strict.
        """
        if jnp.ndim(x) != 2 or x.shape[1] != self.embedding_size:
            raise ValueError(
                f"`RotaryPositionalEmbedding.__call__(x)` must have shape `(seq, embedding_size)` = `(..., "
                f"{self.embedding_size})`; got `{eqx_core.tree_pformat(x)}`. For several heads or a batch, use "
                f"`jax.vmap`."
            )
        cos, sin = (jnp.tile(table[: len(x)], (1, 2)) for table in self._tables(len(x)))
        try:
            jnp.result_type(x, cos)
        except ValueError as error:  # A `TypePromotionError`, which not every JAX has a public name for.
            raise type(error)(
                f"`RotaryPositionalEmbedding.__call__(x)` must be of the dtype of the tables, {cos.dtype}, because "
                f"promotion is strict; got `{eqx_core.tree_pformat(x)}`. Make the layer with `dtype={x.dtype.name!r}`, "
                f"or cast `x`."
            ) from None
        return (x * cos + self.rotate_half(x) * sin).astype(x.dtype)

    def _tables(self, length: int) -> tuple[Array, Array]:
        """Return tables of at least this length."""
        name = (self.embedding_size, self.theta, jnp.dtype(self.dtype), default_dtype())
        tables = _TABLES.get(name)
        if tables is None or len(tables[0]) < length:
            with jax.ensure_compile_time_eval():
                tables = self.precompute_freqs_cis(self.embedding_size, length, self.theta, self.dtype)
            _TABLES[name] = tables
        return tables
