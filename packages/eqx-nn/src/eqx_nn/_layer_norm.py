"""Normalise all of an input: `LayerNorm`."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._standardise import affine, check_shape, scale_and_shift, shape_of, standardise, widen
from ._uniform import default_dtype
from ._unset import UNSET


class LayerNorm(eqx_core.Module):
    """Shift and scale the input to mean 0 and variance 1, then by `weight` and `bias`, entry by entry.

    Statistics are computed in at least float32.

    Attributes:
      weight: `[*shape]`, or None.
      bias: `[*shape]`, or None.

    Source: Ba, Kiros, Hinton (2016), arXiv:1607.06450.
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
        *,
        elementwise_affine: bool | None = None,
    ):
        """Make a weight of ones and a bias of zeros.

        Args:
          shape: Of the inputs; an integer for vectors.
          eps: Added to the variance.
          use_weight: Whether to have a weight.
          use_bias: Whether to have a bias.
          dtype: Of weight and bias; by default float64 if 64 bits are enabled, else float32.
          elementwise_affine: The old name of `use_weight` and `use_bias` together, deprecated.

        Example:
          >>> norm = eqx_nn.LayerNorm(4)
          >>> print(norm(jnp.array([0.0, 0.0, 2.0, 2.0])).round(3))
          [-1. -1.  1.  1.]
        """
        if elementwise_affine is not None:
            warnings.warn(
                "`LayerNorm(elementwise_affine=...)` is deprecated in favour of `LayerNorm(use_weight=...)` and "
                "`LayerNorm(use_bias=...)`.",
                stacklevel=2,
            )
            use_weight = use_bias = elementwise_affine
        self.shape = shape_of(shape)
        self.eps = eps
        self.use_weight = use_weight
        self.use_bias = use_bias
        self.weight, self.bias = affine(self.shape, use_weight, use_bias, default_dtype(dtype))

    @jax.named_scope("eqx.nn.LayerNorm")
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
        check_shape("LayerNorm", x, self.shape)
        out = scale_and_shift(standardise(widen(x), self.eps), self.weight, self.bias).astype(x.dtype)
        return out if state is UNSET else (out, state)
