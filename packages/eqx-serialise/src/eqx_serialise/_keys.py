"""Typed PRNG keys: their implementation by name, `key<threefry2x32>`, and what they hold."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

from ._checkpoint_error import CheckpointError


def is_key(leaf: Any) -> bool:
    """Return whether `leaf` is an array of typed PRNG keys, or the shape of one."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def key_dtype(keys: jax.Array) -> str:
    """Return the dtype of `keys` as a file spells it: JAX's own name for it is an abbreviation.

    Raises:
      TypeError: The implementation is not registered with JAX, so `load` could not find it.
    """
    impl = jr.key_impl(keys)
    if not isinstance(impl, str):
        raise TypeError(f"PRNG keys of the unregistered implementation {impl}")
    return f"key<{impl}>"


def keys_from_data(data: jax.Array, dtype: str) -> jax.Array:
    """Return the keys that `data`, `u32[*keys, words]`, stands for."""
    return jr.wrap_key_data(data, impl=dtype.removeprefix("key<").removesuffix(">"))


def key_like(dtype: str, shape: tuple[int, ...], call: str) -> Any:
    """Return shape and dtype of the keys in a tensor of this shape.

    Args:
      call: What an error calls the reading of the file they are in.

    Raises:
      CheckpointError: JAX does not know the implementation, or its keys are of another size.
    """
    data = jax.ShapeDtypeStruct(shape, jnp.uint32)
    try:
        return jax.eval_shape(lambda data: keys_from_data(data, dtype), data)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"`{call}` must hold PRNG keys that JAX knows; got `{dtype:.40}` in "
            f"a tensor of shape {shape}. Update JAX, or register the implementation."
        ) from error
