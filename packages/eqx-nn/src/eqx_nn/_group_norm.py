"""Normalise groups of channels: `GroupNorm`."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._standardise import affine, scale_and_shift, standardise, widen
from ._uniform import default_dtype
from ._unset import UNSET


class GroupNorm(eqx_core.Module):
    """Shift and scale each group of channels to mean 0 and variance 1, then each channel by `weight` and `bias`.

    Statistics are computed in at least float32.

    Attributes:
      weight: `[channels]`, or None.
      bias: `[channels]`, or None.

    Source: Wu, He (2018), arXiv:1803.08494.
    """

    groups: int = eqx_core.field(static=True)
    channels: int | None = eqx_core.field(static=True)
    eps: float = eqx_core.field(static=True)
    channelwise_affine: bool = eqx_core.field(static=True)
    weight: Array | None
    bias: Array | None

    def __init__(
        self,
        groups: int,
        channels: int | None = None,
        eps: float = 1e-5,
        channelwise_affine: bool = True,
        dtype: Any = None,
    ):
        """Make a weight of ones and a bias of zeros.

        Args:
          groups: The number of groups: 1 to normalise all channels together, `channels` to normalise each alone.
          channels: The number of channels; may be left out without weight and bias.
          eps: Added to the variance.
          channelwise_affine: Whether to have weight and bias.
          dtype: Of weight and bias; by default float64 if 64 bits are enabled, else float32.

        Raises:
          ValueError: `channels` is needed but not given, or `groups` does not divide it.

        Example:
          >>> norm = eqx_nn.GroupNorm(groups=2, channels=4)
          >>> norm(jnp.ones((4, 8, 8))).shape
          (4, 8, 8)
        """
        if channels is None and channelwise_affine:
            raise ValueError(
                "`GroupNorm(channels=...)` must be given if `channelwise_affine=True`; got None. Give the number of "
                "channels, or set `channelwise_affine=False`."
            )
        if groups < 1 or (channels is not None and channels % groups):
            raise ValueError(
                f"`GroupNorm(groups=...)` must divide `channels`; got groups={groups}, channels={channels}. Use "
                f"`groups=1` to normalise all channels together."
            )
        self.groups = groups
        self.channels = channels
        self.eps = eps
        self.channelwise_affine = channelwise_affine
        shape = () if channels is None else (channels,)
        self.weight, self.bias = affine(shape, channelwise_affine, channelwise_affine, default_dtype(dtype))

    @jax.named_scope("eqx.nn.GroupNorm")
    def __call__(self, x: Array, state: Any = UNSET, *, key: PRNGKeyArray | None = None) -> Any:
        """Return the normalised input.

        Args:
          x: `[channels, ...]`.
          state: Returned as it is, so that the layer can take the place of a `BatchNorm`.
          key: Ignored.

        Returns:
          An array of the shape and dtype of `x`, or `(array, state)` if a state is given.

        Raises:
          ValueError: `x` has another number of channels, or one that `groups` does not divide.
        """
        shape = jnp.shape(x)
        if not shape or shape[0] % self.groups or self.channels not in (None, shape[0]):
            expected = f"a multiple of {self.groups}" if self.channels is None else self.channels
            raise ValueError(
                f"`GroupNorm.__call__(x)` must have shape `(channels, ...)` = `({expected}, ...)`; got "
                f"`{eqx_core.tree_pformat(x)}`. To apply it to a batch, use `jax.vmap(layer)(x)`."
            )
        groups = widen(x).reshape(self.groups, -1)
        out = standardise(groups, self.eps, (1,)).reshape(shape)
        per_channel = (shape[0], *[1] * (len(shape) - 1))
        weight, bias = (None if p is None else p.reshape(per_channel) for p in (self.weight, self.bias))
        out = scale_and_shift(out, weight, bias).astype(x.dtype)
        return out if state is UNSET else (out, state)
