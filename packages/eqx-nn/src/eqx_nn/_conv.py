"""Convolutions over any number of spatial axes: `Conv`, `Conv1d`, `Conv2d`, `Conv3d`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._initialise import Initialiser
from ._kernel import PAD_MODES, check_channels, check_groups, draw_kernel, parse_padding, parse_padding_mode
from ._per_axis import Pairs, per_axis
from ._uniform import default_dtype


class Conv(eqx_core.Module):
    """Convolve: slide a kernel over the spatial axes, without flipping it (cross-correlation, as in PyTorch).

    It takes one example, not a batch: map it with `jax.vmap`.

    Attributes:
      weight: `[out_channels, in_channels / groups, *kernel_size]`.
      bias: `[out_channels, 1, ..., 1]`, or None.
      kernel_size, stride, dilation: One integer per spatial axis.
      padding: "SAME", "SAME_LOWER", "VALID", or a pair `(before, after)` per spatial axis.
    """

    num_spatial_dims: int = eqx_core.field(static=True)
    weight: Array
    bias: Array | None
    in_channels: int = eqx_core.field(static=True)
    out_channels: int = eqx_core.field(static=True)
    kernel_size: tuple[int, ...] = eqx_core.field(static=True)
    stride: tuple[int, ...] = eqx_core.field(static=True)
    padding: str | Pairs = eqx_core.field(static=True)
    dilation: tuple[int, ...] = eqx_core.field(static=True)
    groups: int = eqx_core.field(static=True)
    use_bias: bool = eqx_core.field(static=True)
    padding_mode: str = eqx_core.field(static=True)

    def __init__(
        self,
        num_spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] | Sequence[tuple[int, int]] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        use_bias: bool = True,
        padding_mode: str = "ZEROS",
        dtype: Any = None,
        *,
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
        key: PRNGKeyArray,
    ):
        """Draw weight and bias from the uniform law on [-lim, lim), lim = 1/sqrt(in_channels / groups * kernel's size).

        Args:
          num_spatial_dims: The number of spatial axes: 2 for images.
          in_channels: The number of input channels.
          out_channels: The number of output channels.
          kernel_size: The extent of the kernel; like `stride` and `dilation` one integer, or one per spatial axis.
          stride: The step between two windows.
          padding: What to add around the input: an integer; one per spatial axis; a pair `(before, after)` per spatial
            axis; "SAME" for an output of size `ceil(input / stride)`, an odd remainder going behind the input, or with
            "SAME_LOWER" before it; or "VALID" for none.
          dilation: The distance between two entries of the kernel.
          groups: The number of groups into which the channels are split; each output sees one group of inputs.
          use_bias: Whether to add a bias to each output channel.
          padding_mode: What the padding consists of: "ZEROS", or the input "REFLECT"ed, "REPLICATE"d from its edge, or
            "CIRCULAR".
          dtype: Of weight and bias, floating or complex; by default float64 if 64 bits are enabled, else float32.
          weight_init: One of `jax.nn.initializers`, or any function `(key, shape, dtype) -> array`, in place of the law
            above. It sees `[*kernel_size, in_channels / groups, out_channels / groups]`, once for each
            group.
          bias_init: Likewise; it sees `[out_channels]`.
          key: Decides the values drawn.

        Raises:
          ValueError: An argument is none of the above; the channels cannot be split into that many groups; or an
            initialiser returns another shape or dtype than it is called with.
          TypeError: An initialiser cannot be called.

        Example:
          >>> conv = eqx_nn.Conv(2, in_channels=1, out_channels=4, kernel_size=3, padding="same", key=jr.key(0))
          >>> conv(jnp.ones((1, 8, 8))).shape
          (4, 8, 8)
        """
        dtype = default_dtype(dtype)
        check_groups("Conv", in_channels, out_channels, groups)
        self.num_spatial_dims = num_spatial_dims
        self.kernel_size = per_axis(kernel_size, num_spatial_dims, "Conv(kernel_size=...)")
        self.stride = per_axis(stride, num_spatial_dims, "Conv(stride=...)")
        self.dilation = per_axis(dilation, num_spatial_dims, "Conv(dilation=...)")
        self.padding = parse_padding(padding, num_spatial_dims, "Conv(padding=...)")
        self.padding_mode = parse_padding_mode(padding_mode, "Conv(padding_mode=...)")
        self.weight, self.bias = draw_kernel(
            "Conv",
            key,
            in_channels,
            out_channels,
            self.kernel_size,
            groups,
            use_bias,
            dtype,
            weight_init,
            bias_init,
        )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.groups = groups
        self.use_bias = use_bias

    @jax.named_scope("eqx.nn.Conv")
    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """Return the convolution of one example.

        Args:
          x: `[in_channels, *spatial]`, of the dtype of the weight.
          key: Ignored.

        Returns:
          `[out_channels, *new_spatial]`.

        Raises:
          ValueError: `x` has another number of axes or channels.
        """
        check_channels("Conv", x, self.in_channels, self.num_spatial_dims)
        extent = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        padding = self.padding
        if isinstance(padding, str):
            padding = jax.lax.padtype_to_pads(x.shape[1:], extent, self.stride, padding)
        if self.padding_mode != "ZEROS":
            x = jnp.pad(x, ((0, 0), *padding), PAD_MODES[self.padding_mode])
            padding = "VALID"
        out = jax.lax.conv_general_dilated(
            x[None],
            self.weight,
            window_strides=self.stride,
            padding=padding,
            rhs_dilation=self.dilation,
            feature_group_count=self.groups,
        )[0]
        return out if self.bias is None else out + self.bias


class Conv1d(Conv):
    """Convolve over one spatial axis; see `Conv`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] | Sequence[tuple[int, int]] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        use_bias: bool = True,
        padding_mode: str = "ZEROS",
        dtype: Any = None,
        *,
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
        key: PRNGKeyArray,
    ):
        """Take the arguments of `Conv`, without the first one.

        Example:
          >>> eqx_nn.Conv1d(2, 3, kernel_size=3, key=jr.key(0))(jnp.ones((2, 8))).shape
          (3, 6)
        """
        super().__init__(
            1,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            use_bias,
            padding_mode,
            dtype,
            weight_init=weight_init,
            bias_init=bias_init,
            key=key,
        )


class Conv2d(Conv):
    """Convolve over two spatial axes; see `Conv`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = (1, 1),
        padding: str | int | Sequence[int] | Sequence[tuple[int, int]] = (0, 0),
        dilation: int | Sequence[int] = (1, 1),
        groups: int = 1,
        use_bias: bool = True,
        padding_mode: str = "ZEROS",
        dtype: Any = None,
        *,
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
        key: PRNGKeyArray,
    ):
        """Take the arguments of `Conv`, without the first one.

        Example:
          >>> eqx_nn.Conv2d(1, 4, kernel_size=3, key=jr.key(0))(jnp.ones((1, 8, 8))).shape
          (4, 6, 6)
        """
        super().__init__(
            2,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            use_bias,
            padding_mode,
            dtype,
            weight_init=weight_init,
            bias_init=bias_init,
            key=key,
        )


class Conv3d(Conv):
    """Convolve over three spatial axes; see `Conv`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = (1, 1, 1),
        padding: str | int | Sequence[int] | Sequence[tuple[int, int]] = (0, 0, 0),
        dilation: int | Sequence[int] = (1, 1, 1),
        groups: int = 1,
        use_bias: bool = True,
        padding_mode: str = "ZEROS",
        dtype: Any = None,
        *,
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
        key: PRNGKeyArray,
    ):
        """Take the arguments of `Conv`, without the first one.

        Example:
          >>> eqx_nn.Conv3d(1, 4, kernel_size=3, key=jr.key(0))(jnp.ones((1, 8, 8, 8))).shape
          (4, 6, 6, 6)
        """
        super().__init__(
            3,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            use_bias,
            padding_mode,
            dtype,
            weight_init=weight_init,
            bias_init=bias_init,
            key=key,
        )
