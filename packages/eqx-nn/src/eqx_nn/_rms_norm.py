"""Scale an input to a root mean square of 1: `RMSNorm`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._standardise import affine, check_shape, scale_and_shift, shape_of, widen
from ._uniform import default_dtype
from ._unset import UNSET


class RMSNorm(eqx_core.Module):
    """Divide the input by its root mean square, then scale and shift by `weight` and `bias`, entry by entry.

    The mean square is computed in at least float32.

    Attributes:
      weight: `[*shape]`, or None.
      bias: `[*shape]`, or None.

    Source: Zhang, Sennrich (2019), arXiv:1910.07467, with `eps` inside of the root.
    """

    shape: tuple[int, ...] = eqx_core.field(static=True)
    eps: float = eqx_core.field(static=True)
    use_weight: bool = eqx_core.field(static=True)
    use_bias: bool = eqx_core.field(static=True)
    weight: Array | None
    bias: Array | None

    def __init__(
        self,
        shape: int | Sequence[int],
        eps: float = 1e-5,
        use_weight: bool = True,
        use_bias: bool = True,
        dtype: Any = None,
    ):
        """Make a weight of ones and a bias of zeros.

        Args:
          shape: Of the inputs; an integer for vectors.
          eps: Added to the mean square.
          use_weight: Whether to have a weight.
          use_bias: Whether to have a bias.
          dtype: Of weight and bias; by default float64 if 64 bits are enabled, else float32.

        Example:
          >>> print(eqx_nn.RMSNorm(2)(jnp.array([3.0, 3.0])).round(3))
          [1. 1.]
        """
        self.shape = shape_of(shape)
        self.eps = eps
        self.use_weight = use_weight
        self.use_bias = use_bias
        self.weight, self.bias = affine(self.shape, use_weight, use_bias, default_dtype(dtype))

    @jax.named_scope("eqx.nn.RMSNorm")
    def __call__(self, x: Array, state: Any = UNSET, *, key: PRNGKeyArray | None = None) -> Any:
        """Return the normalised input.

        Args:
          x: `[*shape]`, exactly.
          state: Returned as it is, so that the layer can take the place of a `BatchNorm`.
          key: Ignored.

        Returns:
          An array of the shape and dtype of `x`, or `(array, state)` if a state is given.

        Raises:
          ValueError: `x` has another shape.
        """
        check_shape("RMSNorm", x, self.shape)
        wide = widen(x)
        scale = jax.lax.rsqrt(jnp.mean(jnp.real(wide * jnp.conj(wide))) + self.eps)
        out = scale_and_shift(wide * scale.astype(wide.dtype), self.weight, self.bias).astype(x.dtype)
        return out if state is UNSET else (out, state)
