"""Take the largest value of each window: `MaxPool1d`, `MaxPool2d`, `MaxPool3d`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ._pool import Pool


class MaxPool1d(Pool):
    """Take the largest value of each window over one spatial axis; see `Pool`."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = 0,
        use_ceil: bool = False,
    ):
        """Take the arguments of `Pool`, without the first three.

        Example:
          >>> eqx_nn.MaxPool1d(kernel_size=2, stride=2)(jnp.ones((1, 4))).shape
          (1, 2)
        """
        super().__init__(-jnp.inf, jax.lax.max, 1, kernel_size, stride, padding, use_ceil)


class MaxPool2d(Pool):
    """Take the largest value of each window over two spatial axes; see `Pool`."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = (1, 1),
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = (0, 0),
        use_ceil: bool = False,
    ):
        """Take the arguments of `Pool`, without the first three.

        Example:
          >>> eqx_nn.MaxPool2d(kernel_size=2, stride=2)(jnp.ones((1, 4, 4))).shape
          (1, 2, 2)
        """
        super().__init__(-jnp.inf, jax.lax.max, 2, kernel_size, stride, padding, use_ceil)


class MaxPool3d(Pool):
    """Take the largest value of each window over three spatial axes; see `Pool`."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = (1, 1, 1),
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = (0, 0, 0),
        use_ceil: bool = False,
    ):
        """Take the arguments of `Pool`, without the first three.

        Example:
          >>> eqx_nn.MaxPool3d(kernel_size=2, stride=2)(jnp.ones((1, 4, 4, 4))).shape
          (1, 2, 2, 2)
        """
        super().__init__(-jnp.inf, jax.lax.max, 3, kernel_size, stride, padding, use_ceil)
