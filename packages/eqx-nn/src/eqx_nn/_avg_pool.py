"""Average each window: `AvgPool1d`, `AvgPool2d`, `AvgPool3d`."""

import math
from collections.abc import Sequence

import jax
from jaxtyping import Array, PRNGKeyArray

from ._pool import Pool


class AvgPool1d(Pool):
    """Take the mean of each window, padding included, over one spatial axis; see `Pool`."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = 0,
        use_ceil: bool = False,
    ):
        """Take the arguments of `Pool`, without the first three.

        Example:
          >>> eqx_nn.AvgPool1d(kernel_size=2, stride=2)(jnp.ones((1, 4))).shape
          (1, 2)
        """
        super().__init__(0, jax.lax.add, 1, kernel_size, stride, padding, use_ceil)

    @jax.named_scope("eqx.nn.AvgPool1d")
    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """Return the averages, of a floating dtype also for integers; see `Pool.__call__`."""
        return super().__call__(x) / math.prod(self.kernel_size)


class AvgPool2d(Pool):
    """Take the mean of each window, padding included, over two spatial axes; see `Pool`."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = (1, 1),
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = (0, 0),
        use_ceil: bool = False,
    ):
        """Take the arguments of `Pool`, without the first three.

        Example:
          >>> eqx_nn.AvgPool2d(kernel_size=2, stride=2)(jnp.ones((1, 4, 4))).shape
          (1, 2, 2)
        """
        super().__init__(0, jax.lax.add, 2, kernel_size, stride, padding, use_ceil)

    @jax.named_scope("eqx.nn.AvgPool2d")
    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """Return the averages, of a floating dtype also for integers; see `Pool.__call__`."""
        return super().__call__(x) / math.prod(self.kernel_size)


class AvgPool3d(Pool):
    """Take the mean of each window, padding included, over three spatial axes; see `Pool`."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = (1, 1, 1),
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = (0, 0, 0),
        use_ceil: bool = False,
    ):
        """Take the arguments of `Pool`, without the first three.

        Example:
          >>> eqx_nn.AvgPool3d(kernel_size=2, stride=2)(jnp.ones((1, 4, 4, 4))).shape
          (1, 2, 2, 2)
        """
        super().__init__(0, jax.lax.add, 3, kernel_size, stride, padding, use_ceil)

    @jax.named_scope("eqx.nn.AvgPool3d")
    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """Return the averages, of a floating dtype also for integers; see `Pool.__call__`."""
        return super().__call__(x) / math.prod(self.kernel_size)
