"""A rectifier with a learnt slope: `PReLU`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

import eqx_core


class PReLU(eqx_core.Module):
    """Return `x` where it is at least 0, and `negative_slope * x` elsewhere.

    Attributes:
      negative_slope: Of any shape that broadcasts against the input's.

    Example:
      >>> print(eqx_nn.PReLU()(jnp.array([-2.0, 2.0])))
      [-0.5  2. ]

    Source: He, Zhang, Ren, Sun (2015), equation 1.
    """

    negative_slope: Array

    def __init__(self, init_alpha: ArrayLike = 0.25):
        """Start from the slope `init_alpha`."""
        self.negative_slope = jnp.asarray(init_alpha)

    @jax.named_scope("eqx.nn.PReLU")
    def __call__(self, x: Array) -> Array:
        """Return the rectified input; `x` and the slope are promoted to their common dtype and shape."""
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return jnp.where(x >= 0, x, self.negative_slope * x)
