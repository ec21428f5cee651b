"""Step from one floating-point number to the next: `nextafter`, `prevbefore`."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


@jax.custom_jvp
def nextafter(x: ArrayLike) -> jax.Array:
    """Return the next larger floating-point number. Its derivative is 1.

    After 0 comes the smallest normal number, as smaller ones are taken for 0 by many processors.

    Args:
      x: A floating-point array.

    Raises:
      ValueError: `x` is no floating-point array.

    Example:
      >>> from eqx_filter.internal import nextafter
      >>> nextafter(jnp.array(1.0)) - 1
      Array(1.1920929e-07, dtype=float32)
    """
    return _neighbour("nextafter", x, 1)


@jax.custom_jvp
def prevbefore(x: ArrayLike) -> jax.Array:
    """Return the next smaller floating-point number. Its derivative is 1.

    Before 0 comes the negative of the smallest normal number.

    Args:
      x: A floating-point array.

    Raises:
      ValueError: `x` is no floating-point array.

    Example:
      >>> from eqx_filter.internal import prevbefore
      >>> 1 - prevbefore(jnp.array(1.0))
      Array(5.9604645e-08, dtype=float32)
    """
    return _neighbour("prevbefore", x, -1)


def _neighbour(name: str, x: ArrayLike, sign: int) -> jax.Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"`{name}(x=...)` must have a floating-point dtype; got `{x.dtype}`. Convert it by `.astype`.")
    tiny = jnp.asarray(sign * jnp.finfo(x.dtype).tiny, x.dtype)
    towards = jnp.full_like(x, sign * jnp.inf)
    return jnp.where(x == 0, jnp.broadcast_to(tiny, x.shape), jnp.nextafter(x, towards))


nextafter.defjvps(lambda tangent, out, x: tangent)
prevbefore.defjvps(lambda tangent, out, x: tangent)
