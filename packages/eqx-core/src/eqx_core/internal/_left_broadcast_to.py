"""Broadcast from the left: `left_broadcast_to`."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def left_broadcast_to(arr: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """Broadcast `arr` to `shape`, with its axes lined up on the left rather than on the right as NumPy does.

    Args:
      arr: An array whose shape is that of the first axes of `shape`, or 1 in their place.
      shape: The shape of the result.

    Returns:
      An array of shape `shape`: `arr` with axes of length 1 appended, then broadcast.

    Raises:
      ValueError: `arr` has too many axes, or one of the wrong length.

    Example:
      >>> from eqx_core.internal import left_broadcast_to
      >>> left_broadcast_to(jnp.array([1, 2]), (2, 3))
      Array([[1, 1, 1],
             [2, 2, 2]], dtype=int32)
    """
    have = jnp.shape(arr)
    shape = tuple(shape)
    fits = len(have) <= len(shape) and all(m in (1, n) for m, n in zip(have, shape, strict=False))
    if not fits:
        raise ValueError(
            f"`left_broadcast_to(arr=...)` must have the lengths of the first axes of `shape` = {shape}, or 1; got shape "
            f"{have}. To line the axes up on the right, use `jnp.broadcast_to`."
        )
    return jnp.broadcast_to(jnp.reshape(arr, have + (1,) * (len(shape) - len(have))), shape)
