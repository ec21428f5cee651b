"""Reduce windows of an input, whatever the reduction: `Pool`."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._per_axis import Pairs, padding_per_axis, per_axis

# Entries of a window whose sum is written out: XLA takes long to compile that of many.
_FEW = 32


class Pool(eqx_core.Module):
    """Reduce each window over the spatial axes to one number, channel by channel.

    It takes one example, not a batch: map it with `jax.vmap`. Derivatives by reverse mode exist if `operation` is
    `jax.lax.add`, `jax.lax.max` or `jax.lax.min` and `init` is its neutral element.

    Attributes:
      init: The value that each reduction starts from, and of the padding.
      operation: A function from two scalars to one, associative and commutative.
      kernel_size, stride: One integer per spatial axis.
      padding: A pair `(before, after)` per spatial axis.
    """

    init: Any
    operation: Callable[[Array, Array], Array]
    num_spatial_dims: int = eqx_core.field(static=True)
    kernel_size: tuple[int, ...] = eqx_core.field(static=True)
    stride: tuple[int, ...] = eqx_core.field(static=True)
    padding: Pairs = eqx_core.field(static=True)
    use_ceil: bool = eqx_core.field(static=True)

    def __init__(
        self,
        init: Any,
        operation: Callable[[Array, Array], Array],
        num_spatial_dims: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = 0,
        use_ceil: bool = False,
    ):
        """Remember how to pool; there is nothing to learn.

        Args:
          init: The neutral element of `operation`. It is cast to the input's dtype.
          operation: How two values are reduced to one.
          num_spatial_dims: The number of spatial axes: 2 for images.
          kernel_size: The extent of the window; like `stride` one integer, or one per spatial axis.
          stride: The step between two windows: 1 unless given, unlike PyTorch.
          padding: What to add around the input: an integer, one per spatial axis, or a pair `(before, after)` per
            spatial axis; at most `kernel_size`.
          use_ceil: Whether to pad by one more `stride` behind the input where the windows do not fill it.

        Raises:
          ValueError: An argument is none of the above.

        Example:
          >>> pool = eqx_nn.Pool(0, jax.lax.add, num_spatial_dims=1, kernel_size=2)
          >>> print(pool(jnp.arange(4)[None]))
          [[1 3 5]]
        """
        self.init = init
        self.operation = operation
        self.num_spatial_dims = num_spatial_dims
        self.kernel_size = per_axis(kernel_size, num_spatial_dims, "Pool(kernel_size=...)")
        self.stride = per_axis(stride, num_spatial_dims, "Pool(stride=...)")
        self.padding = padding_per_axis(padding, num_spatial_dims, "Pool(padding=...)")
        self.use_ceil = use_ceil

    @jax.named_scope("eqx.nn.Pool")
    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """Return the reduced windows of one example.

        Args:
          x: `[channels, *spatial]`.
          key: Ignored.

        Returns:
          `[channels, *new_spatial]`, of the same dtype.

        Raises:
          AssertionError: `x` has another number of axes.
          RuntimeError: The padding, with what `use_ceil` adds, is larger than the kernel.
        """
        if jnp.ndim(x) != self.num_spatial_dims + 1:
            raise AssertionError(
                f"`{type(self).__name__}.__call__(x)` must have shape `(channels, *spatial)`, with "
                f"{self.num_spatial_dims} spatial axes; got `{eqx_core.tree_pformat(x)}`. To apply it to a batch, use "
                f"`jax.vmap(pool)(x)`."
            )
        padding = self._ceiled(x.shape[1:]) if self.use_ceil else self.padding
        for extent, pair in zip(self.kernel_size, padding, strict=True):
            if max(pair) > extent:
                raise RuntimeError(
                    f"`{type(self).__name__}(padding=...)` must be at most the kernel size, or some windows would "
                    f"hold nothing but padding; got padding {pair}"
                    f"{', that of `use_ceil` included,' if self.use_ceil else ''} for kernel size {extent}. "
                    f"Pad less{', or use a smaller stride' if self.use_ceil else ''}."
                )
        if self.operation is jax.lax.add and _is_zero(self.init) and math.prod(self.kernel_size) <= _FEW:
            return _sum_of_slices(x, self.kernel_size, self.stride, padding)
        return jax.lax.reduce_window(
            x,
            _cast(self.init, x.dtype),
            self.operation,
            (1, *self.kernel_size),
            (1, *self.stride),
            ((0, 0), *padding),
        )

    def _ceiled(self, spatial: tuple[int, ...]) -> Pairs:
        """Return the padding with one more stride behind each axis that the windows do not fill."""
        sizes = zip(spatial, self.kernel_size, self.stride, self.padding, strict=True)
        return tuple(
            (low, high + stride if (size + low + high - extent) % stride else high)
            for size, extent, stride, (low, high) in sizes
        )


def _is_zero(init: Any) -> bool:
    return isinstance(init, int | float) and init == 0


def _sum_of_slices(x: Array, kernel_size: tuple[int, ...], stride: tuple[int, ...], padding: Pairs) -> Array:
    """Return the sums of the windows of `x[channels, *spatial]`, entry by entry of the window.

    Each entry is a strided slice. XLA on CPUs adds these in a twentieth of the time that `reduce_window` takes, and finds
    the gradient in a fifth.
    """
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in padding)])
    sizes = zip(x.shape[1:], kernel_size, stride, strict=True)
    windows = [max(0, (size - extent) // step + 1) for size, extent, step in sizes]
    if not all(windows):
        return jnp.zeros((len(x), *windows), x.dtype)
    spans = [(n - 1) * step + 1 for n, step in zip(windows, stride, strict=True)]

    def entry(starts: tuple[int, ...]) -> Array:
        stops = tuple(start + span for start, span in zip(starts, spans, strict=True))
        return jax.lax.slice(x, (0, *starts), (len(x), *stops), (1, *stride))

    return functools.reduce(jax.lax.add, map(entry, itertools.product(*map(range, kernel_size))))


def _cast(init: Any, dtype: Any) -> Any:
    """Return `init` in that dtype, where the integer or Boolean nearest to an infinity is the lowest or highest."""
    if isinstance(init, jax.Array):
        return init.astype(dtype)
    if jnp.issubdtype(dtype, jnp.integer) and math.isinf(init):
        init = jnp.iinfo(dtype).max if init > 0 else jnp.iinfo(dtype).min
    elif jnp.issubdtype(dtype, jnp.bool_):
        init = init > 0
    # A NumPy scalar is a constant also under `jax.jit`, which is how JAX finds the operation's derivative.
    return jnp.dtype(dtype).type(init)
