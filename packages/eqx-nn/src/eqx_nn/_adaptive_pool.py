"""Pool to a shape that is given: `AdaptivePool`."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._per_axis import per_axis


class AdaptivePool(eqx_core.Module):
    """Divide each spatial axis into a given number of windows, and reduce each window to one number.

    An axis of size `n` is divided into `t` windows that do not overlap: the first `n mod t` of them have `n // t + 1`
    entries, the others `n // t`. (PyTorch's windows overlap where `t` does not divide `n`.)

    Attributes:
      target_shape: The number of windows per spatial axis.
      operation: A function from an array, and the axes over which to reduce it, such as `jax.numpy.mean`.
    """

    target_shape: tuple[int, ...] = eqx_core.field(static=True)
    operation: Callable[..., Array]

    def __init__(
        self,
        target_shape: int | Sequence[int],
        num_spatial_dims: int,
        operation: Callable[..., Array],
    ):
        """Remember how to pool; there is nothing to learn.

        Args:
          target_shape: One integer, or one per spatial axis.
          num_spatial_dims: The number of spatial axes: 2 for images.
          operation: How a window is reduced: called as `operation(array, axis=...)`.

        Raises:
          ValueError: `target_shape` is none of the above, or not at least 1.

        Example:
          >>> pool = eqx_nn.AdaptivePool(2, num_spatial_dims=1, operation=jnp.median)
          >>> print(pool(jnp.arange(8.0)[None]))
          [[1.5 5.5]]
        """
        self.target_shape = per_axis(target_shape, num_spatial_dims, "AdaptivePool(target_shape=...)")
        if any(size < 1 for size in self.target_shape):
            raise ValueError(
                f"`AdaptivePool(target_shape=...)` must be at least 1 for each axis; got {self.target_shape}. Give the "
                f"size of the output."
            )
        self.operation = operation

    @jax.named_scope("eqx.nn.AdaptivePool")
    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """Return the reduced windows of one example.

        Args:
          x: `[channels, *spatial]`, each axis at least as large as its target.
          key: Ignored.

        Returns:
          `[channels, *target_shape]`.

        Raises:
          ValueError: `x` has another number of axes, or one is too small.
        """
        shape = jnp.shape(x)
        axes = len(self.target_shape)
        if len(shape) != axes + 1 or any(n < t for n, t in zip(shape[1:], self.target_shape, strict=True)):
            raise ValueError(
                f"`{type(self).__name__}.__call__(x)` must have shape `(channels, *spatial)`, with {axes} spatial axes "
                f"of at least {self.target_shape}; got `{eqx_core.tree_pformat(x)}`. To apply it to a batch, use "
                f"`jax.vmap(pool)(x)`."
            )
        for axis, target in enumerate(self.target_shape, start=1):
            x = self._reduced(x, axis, target)
        return x

    def _reduced(self, x: Array, axis: int, target: int) -> Array:
        """Reduce one axis to `target` entries."""
        size, larger = divmod(x.shape[axis], target)
        head, tail = jnp.split(x, [larger * (size + 1)], axis=axis)
        parts = [
            self.operation(part.reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :]), axis=axis + 1)
            for part, count in ((head, larger), (tail, target - larger))
            if count
        ]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=axis)
