"""Bytes of a file -> leaves of the kind that `like` has."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._dtypes import from_bytes, leaf_shape
from ._header import Tensor
from ._keys import keys_from_data
from ._spec import spec_of


def to_host(raw: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Return the array in `raw`, `u8[bytes]`: for typed PRNG keys the data they are made of.

    Raises:
      ValueError: Bytes that `save` never writes.
    """
    dtype = "uint32" if tensor.dtype.startswith("key<") else tensor.dtype
    return from_bytes(raw, dtype, leaf_shape(dtype, tensor.shape))


def to_numpy(array: np.ndarray, like: np.ndarray | np.generic) -> np.ndarray | np.generic:
    """Return `array` in memory of its own, in the byte order of `like`; or as a NumPy scalar."""
    return array[()] if isinstance(like, np.generic) else array.astype(like.dtype)


def to_jax(arrays: dict[str, np.ndarray], tensors: dict[str, Tensor], likes: dict[str, Any]) -> dict[str, jax.Array]:
    """Return JAX arrays where those of `likes` are: their devices, their sharding.

    On a CPU, an array that starts at a multiple of 64 bytes is taken over and not copied; so the
    caller leaves its memory alone.

    Raises:
      RuntimeError: 64-bit arrays, while JAX has none.
    """
    shardings = [_sharding(likes[name]) for name in arrays]
    # All in one call, which costs far less than one call for each. Keys have another shape than
    # their data, so that they can go to their devices only when they are keys.
    is_key = [tensors[name].dtype.startswith("key<") for name in arrays]
    places = [None if key else place for key, place in zip(is_key, shardings, strict=True)]
    placed = jax.device_put(list(arrays.values()), places)
    leaves: dict[str, jax.Array] = {}
    for name, array, key, place in zip(arrays, placed, is_key, shardings, strict=True):
        if key:
            array = jax.device_put(keys_from_data(array, tensors[name].dtype), place)
        elif getattr(likes[name], "weak_type", False):
            array = jax.device_put(_weak(array), place)
        if array.dtype != likes[name].dtype:
            raise RuntimeError(
                f"`load(like=...)` must have dtypes that JAX now has; got `{spec_of(likes[name])}` "
                f'at `{name}`. Call `jax.config.update("jax_enable_x64", True)` first.'
            )
        leaves[name] = array
    return leaves


def _sharding(like: Any) -> Any:
    # An array that nobody put anywhere stays free to follow the others.
    is_placed = isinstance(like, jax.ShapeDtypeStruct) or getattr(like, "committed", False)
    return like.sharding if is_placed else None


def _weak(array: jax.Array) -> jax.Array:
    """Return `array` with a dtype that yields to others, as that of `jnp.asarray(1.0)` does."""
    zero = jnp.asarray(array.dtype.type(0).item())
    if zero.dtype != array.dtype:
        return array
    # The one public way from an array to a weak one: an update keeps the type of what it updates.
    return jnp.broadcast_to(zero, array.shape).at[...].set(array)
