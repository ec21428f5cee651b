"""Take the largest value of windows, as many as are asked for: `AdaptiveMaxPool1d`, `...2d`, `...3d`."""

from collections.abc import Sequence

import jax.numpy as jnp

from ._adaptive_pool import AdaptivePool


class AdaptiveMaxPool1d(AdaptivePool):
    """Take the largest value of each window over one spatial axis; see `AdaptivePool`."""

    def __init__(self, target_shape: int | Sequence[int]):
        """Take the first argument of `AdaptivePool`.

        Example:
          >>> eqx_nn.AdaptiveMaxPool1d(2)(jnp.ones((1, 6))).shape
          (1, 2)
        """
        super().__init__(target_shape, 1, jnp.max)


class AdaptiveMaxPool2d(AdaptivePool):
    """Take the largest value of each window over two spatial axes; see `AdaptivePool`."""

    def __init__(self, target_shape: int | Sequence[int]):
        """Take the first argument of `AdaptivePool`.

        Example:
          >>> eqx_nn.AdaptiveMaxPool2d(2)(jnp.ones((1, 6, 6))).shape
          (1, 2, 2)
        """
        super().__init__(target_shape, 2, jnp.max)


class AdaptiveMaxPool3d(AdaptivePool):
    """Take the largest value of each window over three spatial axes; see `AdaptivePool`."""

    def __init__(self, target_shape: int | Sequence[int]):
        """Take the first argument of `AdaptivePool`.

        Example:
          >>> eqx_nn.AdaptiveMaxPool3d(2)(jnp.ones((1, 6, 6, 6))).shape
          (1, 2, 2, 2)
        """
        super().__init__(target_shape, 3, jnp.max)
