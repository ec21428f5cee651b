"""Draw initial parameters uniformly, in the default floating dtype unless another one is asked for."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray


def default_dtype(dtype: Any = None) -> Any:
    """Return `dtype`, or for None JAX's default: float64 if 64 bits are enabled, else float32."""
    return jax.dtypes.canonicalize_dtype(float) if dtype is None else jnp.dtype(dtype)


def uniform(key: PRNGKeyArray, shape: Sequence[int], dtype: Any, limit: float) -> Array:
    """Return an array drawn from the uniform law on [-limit, limit).

    For a complex dtype the real and the imaginary part are drawn separately, each from that law.
    """
    if jnp.issubdtype(dtype, jnp.complexfloating):
        part = jnp.finfo(dtype).dtype
        real, imaginary = (uniform(half, shape, part, limit) for half in jr.split(key))
        return jax.lax.complex(real, imaginary)
    return jr.uniform(key, shape, dtype, minval=-limit, maxval=limit)
