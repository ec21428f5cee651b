"""Bytes of a file -> leaves of the kind that `like` has."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ._dtypes import from_bytes, leaf_shape
from ._header import Tensor
from ._keys import keys_from_data
from ._spec import spec_of
from ._without_collection import without_collection

_WIDE = {np.dtype(name) for name in ("int64", "float64", "complex128")}


def to_host(raw: np.ndarray, tensor: Tensor) -> Any:
    """Return the array in `raw`, `u8[bytes]`: a NumPy array, or an array of typed PRNG keys.

    Raises:
      ValueError: Bytes that `save` never writes.
    """
    if tensor.dtype.startswith("key<"):
        return keys_from_data(jnp.asarray(from_bytes(raw, "uint32", tensor.shape)), tensor.dtype)
    return from_bytes(raw, tensor.dtype, leaf_shape(tensor.dtype, tensor.shape))


def to_numpy(array: Any, like: np.ndarray | np.generic, *, share: bool) -> np.ndarray | np.generic:
    """Return `array` in the byte order of `like`, or as a NumPy scalar.

    Args:
      share: Whether it may stay in the memory where it is.
    """
    array = np.asarray(array)
    return array[()] if isinstance(like, np.generic) else array.astype(like.dtype, copy=not share)


def to_jax(arrays: dict[str, Any], likes: dict[str, Any]) -> dict[str, jax.Array]:
    """Return JAX arrays where those of `likes` are: their devices, their sharding.

    On a CPU, an array that starts at a multiple of 64 bytes is taken over and not copied; so the
    caller leaves its memory alone.

    Raises:
      RuntimeError: 64-bit arrays, while JAX has none.
      ValueError: A sharding does not fit the shape, or its devices are not there.
    """
    shardings = {name: _sharding(likes[name]) for name in arrays}
    # All in one call, which costs far less than one call for each.
    placed = _put(arrays, shardings)
    leaves: dict[str, jax.Array] = {}
    for (name, place), array in zip(shardings.items(), placed, strict=True):
        if getattr(likes[name], "weak_type", False):
            array = jax.device_put(_weak(array), place)
        if array.dtype != likes[name].dtype:
            raise RuntimeError(
                f"`load(like=...)` must have dtypes that JAX now has; got `{spec_of(likes[name])}` "
                f'at `{name}`. Call `jax.config.update("jax_enable_x64", True)` first.'
            )
        leaves[name] = array
    return leaves


def _put(arrays: dict[str, Any], shardings: dict[str, Any]) -> list[jax.Array]:
    try:
        places = list(shardings.values())
        with without_collection():
            return jax.device_put(list(arrays.values()), None if all(place is None for place in places) else places)
    except ValueError:
        for name, place in shardings.items():
            try:
                jax.device_put(arrays[name], place)
            except ValueError as error:
                raise ValueError(
                    f"`load(like=...)` must have shardings that fit its shapes and devices; got `{place}` for "
                    f"`{spec_of(arrays[name])}` at `{name}`: {error}"
                ) from error
        raise


def _sharding(like: Any) -> Any:
    if isinstance(like, jax.core.Tracer):
        return None
    # An array that nobody put anywhere stays free to follow the others.
    is_placed = isinstance(like, jax.ShapeDtypeStruct) or getattr(like, "committed", False)
    return like.sharding if is_placed else None


def _weak(array: jax.Array) -> jax.Array:
    """Return `array` with a dtype that yields to others, as that of `jnp.asarray(1.0)` does."""
    # A Python number becomes an array of the one width that JAX has now.
    with jax.enable_x64(array.dtype in _WIDE):
        zero = jnp.asarray(array.dtype.type(0).item())
        if zero.dtype != array.dtype:
            return array
        # The one public way from an array to a weak one: an update keeps the type of what it updates.
        return jnp.broadcast_to(zero, array.shape).at[...].set(array)
