"""A vector for each of finitely many things: `Embedding`."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, PRNGKeyArray

import eqx_core

from ._initialise import Initialiser, draw
from ._uniform import default_dtype


class Embedding(eqx_core.Module):
    """Look up the row of a table.

    Attributes:
      weight: `[num_embeddings, embedding_size]`.
    """

    num_embeddings: int = eqx_core.field(static=True)
    embedding_size: int = eqx_core.field(static=True)
    weight: Array

    def __init__(
        self,
        num_embeddings: int | None = None,
        embedding_size: int | None = None,
        weight: Array | None = None,
        dtype: Any = None,
        *,
        weight_init: Initialiser | None = None,
        key: PRNGKeyArray | None = None,
    ):
        """Draw the table from the standard normal law, or take one.

        Args:
          num_embeddings: The number of rows.
          embedding_size: The length of each row.
          weight: The table itself; the sizes, if given too, must be its own.
          dtype: Of a table that is drawn; by default float64 if 64 bits are enabled, else float32.
          weight_init: One of `jax.nn.initializers`, or any function `(key, shape, dtype) -> array`, in place of the normal
            law. It sees `[num_embeddings, embedding_size]`.
          key: Decides the values drawn.

        Raises:
          ValueError: Neither a table nor both sizes and a key are given; a size is negative; the table is not two-
            dimensional or of another size; or the initialiser returns another shape or dtype than it is called with.
          TypeError: An initialiser cannot be called.

        Example:
          >>> embedding = eqx_nn.Embedding(100, 8, key=jr.key(0))
          >>> embedding(3).shape
          (8,)
          >>> jax.vmap(embedding)(jnp.array([1, 2, 3])).shape
          (3, 8)
        """
        if weight is None:
            weight = _draw(num_embeddings, embedding_size, dtype, weight_init, key)
        shape = jnp.shape(weight)
        wanted = (num_embeddings, embedding_size)
        if len(shape) != 2 or any(size not in (None, own) for size, own in zip(wanted, shape, strict=True)):
            raise ValueError(
                f"`Embedding(weight=...)` must have shape `(num_embeddings, embedding_size)` = `{wanted}`; got "
                f"`{eqx_core.tree_pformat(weight)}`. Leave out the sizes to take those of the table."
            )
        self.num_embeddings, self.embedding_size = shape
        self.weight = weight

    @jax.named_scope("eqx.nn.Embedding")
    def __call__(self, x: ArrayLike, *, key: PRNGKeyArray | None = None) -> Array:
        """Return one row.

        Args:
          x: An integer of shape `[]`; negative ones count from the end. Beyond the table the last row is taken.
          key: Ignored.

        Returns:
          `[embedding_size]`.

        Raises:
          ValueError: `x` is not of shape `()`, or not an integer.
        """
        integer = jnp.issubdtype(jnp.result_type(x), jnp.integer)
        if jnp.shape(x) != () or not integer:
            raise ValueError(
                f"`Embedding.__call__(x)` must be an integer of shape `()`; got `{eqx_core.tree_pformat(x)}`. To look "
                f"up several at once, use `jax.vmap(embedding)(x)`."
            )
        return self.weight[x]


def _draw(
    num_embeddings: int | None,
    embedding_size: int | None,
    dtype: Any,
    weight_init: Initialiser | None,
    key: PRNGKeyArray | None,
) -> Array:
    if num_embeddings is None or embedding_size is None or key is None:
        raise ValueError(
            "`Embedding(num_embeddings=..., embedding_size=..., key=...)` must all be given; got None. Or give the "
            "table itself as `weight`."
        )
    if num_embeddings < 0 or embedding_size < 0:
        raise ValueError(
            f"`Embedding(num_embeddings=..., embedding_size=...)` must be at least 0; got {num_embeddings} and "
            f"{embedding_size}. Give the number of rows, and their length."
        )
    init = jr.normal if weight_init is None else weight_init
    shape = (num_embeddings, embedding_size)
    return draw(init, key, shape, default_dtype(dtype), "Embedding(weight_init=...)")
