"""Transposed convolutions over any number of spatial axes: `ConvTranspose`, `ConvTranspose1d`, `...2d`, `...3d`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._initialise import Initialiser
from ._kernel import check_channels, check_groups, draw_kernel, parse_padding, parse_padding_mode
from ._per_axis import Pairs, per_axis
from ._uniform import default_dtype


class ConvTranspose(eqx_core.Module):
    """Apply the transpose of a `Conv` of the same arguments, channels swapped: the linear map of its gradient.

    It takes one example, not a batch: map it with `jax.vmap`. To transpose a given convolution, use its weight with the
    spatial axes flipped and the first two axes swapped.

    Attributes:
      weight: `[out_channels, in_channels / groups, *kernel_size]`.
      bias: `[out_channels, 1, ..., 1]`, or None.
      kernel_size, stride, output_padding, dilation: One integer per spatial axis.
      padding: "SAME", "SAME_LOWER", "VALID", or a pair `(before, after)` per spatial axis.

    Source: Dumoulin, Visin (2016), arXiv:1603.07285.
    """

    num_spatial_dims: int = eqx_core.field(static=True)
    weight: Array
    bias: Array | None
    in_channels: int = eqx_core.field(static=True)
    out_channels: int = eqx_core.field(static=True)
    kernel_size: tuple[int, ...] = eqx_core.field(static=True)
    stride: tuple[int, ...] = eqx_core.field(static=True)
    padding: str | Pairs = eqx_core.field(static=True)
    output_padding: tuple[int, ...] = eqx_core.field(static=True)
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
        output_padding: int | Sequence[int] = 0,
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
        """Draw weight and bias as `Conv` does.

        Args:
          num_spatial_dims: The number of spatial axes: 2 for images.
          in_channels: The number of input channels.
          out_channels: The number of output channels.
          kernel_size: The extent of the kernel; like `stride`, `output_padding` and `dilation` one integer, or one per
            spatial axis.
          stride: The step of the convolution that is transposed: the output is larger by this factor.
          padding: The padding of the convolution that is transposed: the output is smaller by it.
          output_padding: Less than `stride`: it tells apart the inputs of a convolution that have outputs of one size. It
            is what the output has more behind; but with "SAME" or "SAME_LOWER", where without it the output has `stride`
            times the size of the input, what the output has less.
          dilation: The distance between two entries of the kernel.
          groups: The number of groups into which the channels are split.
          use_bias: Whether to add a bias to each output channel.
          padding_mode: "ZEROS"; or "CIRCULAR", with "SAME" or "SAME_LOWER" and no `output_padding`.
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
          NotImplementedError: `padding_mode` is "REFLECT" or "REPLICATE", or "CIRCULAR" with other arguments.

        Example:
          >>> conv = eqx_nn.ConvTranspose(2, 4, 1, kernel_size=3, stride=2, padding="SAME", key=jr.key(0))
          >>> conv(jnp.ones((4, 8, 8))).shape
          (1, 16, 16)
        """
        dtype = default_dtype(dtype)
        check_groups("ConvTranspose", in_channels, out_channels, groups)
        self.num_spatial_dims = num_spatial_dims
        self.kernel_size = per_axis(kernel_size, num_spatial_dims, "ConvTranspose(kernel_size=...)")
        self.stride = per_axis(stride, num_spatial_dims, "ConvTranspose(stride=...)")
        self.output_padding = per_axis(output_padding, num_spatial_dims, "ConvTranspose(output_padding=...)")
        self.dilation = per_axis(dilation, num_spatial_dims, "ConvTranspose(dilation=...)")
        self.padding = parse_padding(padding, num_spatial_dims, "ConvTranspose(padding=...)")
        self.padding_mode = parse_padding_mode(padding_mode, "ConvTranspose(padding_mode=...)")
        _check_output_padding(self.output_padding, self.stride)
        _check_mode(self.padding_mode, self.padding, self.output_padding)
        self.weight, self.bias = draw_kernel(
            "ConvTranspose",
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

    @jax.named_scope("eqx.nn.ConvTranspose")
    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """Return the transposed convolution of one example.

        Args:
          x: `[in_channels, *spatial]`, of the dtype of the weight.
          key: Ignored.

        Returns:
          `[out_channels, *new_spatial]`.

        Raises:
          ValueError: `x` has another number of axes or channels.
        """
        check_channels("ConvTranspose", x, self.in_channels, self.num_spatial_dims)
        padding = self._padding()
        if self.padding_mode == "CIRCULAR":
            sizes = list(zip(padding, self.stride, strict=True))
            around = [(low // stride, high // stride) for (low, high), stride in sizes]
            x = jnp.pad(x, ((0, 0), *around), "wrap")
            padding = [(low % stride, high % stride) for (low, high), stride in sizes]
        out = jax.lax.conv_general_dilated(
            x[None],
            self.weight,
            window_strides=(1,) * self.num_spatial_dims,
            padding=padding,
            lhs_dilation=self.stride,
            rhs_dilation=self.dilation,
            feature_group_count=self.groups,
        )[0]
        return out if self.bias is None else out + self.bias

    def _padding(self) -> list[tuple[int, int]]:
        """Return what to pad the dilated input with, before and after, for each spatial axis."""
        spans = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        if self.padding == "VALID":
            pairs = ((0, 0),) * self.num_spatial_dims
        elif isinstance(self.padding, str):
            return [self._same(*sizes) for sizes in zip(spans, self.stride, self.output_padding, strict=True)]
        else:
            pairs = self.padding
        return [
            (span - low, span - high + more)
            for span, (low, high), more in zip(spans, pairs, self.output_padding, strict=True)
        ]

    def _same(self, span: int, stride: int, less: int) -> tuple[int, int]:
        """Return the padding of one axis for which the output has `stride` times the size of the input, minus `less`."""
        total = span - stride + less + 1
        more = max(-total, 0)
        small, large = max(total, 0) // 2, (max(total, 0) + 1) // 2
        low, high = (small, large) if self.padding == "SAME" else (large, small)
        return span - low, span - high + more


def _check_output_padding(output_padding: tuple[int, ...], stride: tuple[int, ...]) -> None:
    if any(more >= s for more, s in zip(output_padding, stride, strict=True)):
        raise ValueError(
            f"`ConvTranspose(output_padding=...)` must be less than `stride` = {stride} for each axis; got "
            f"{output_padding}. Use a larger stride."
        )


def _check_mode(mode: str, padding: str | Pairs, output_padding: tuple[int, ...]) -> None:
    circular = mode == "CIRCULAR" and padding in ("SAME", "SAME_LOWER") and not any(output_padding)
    if mode != "ZEROS" and not circular:
        raise NotImplementedError(
            f'`ConvTranspose(padding_mode=...)` must be "ZEROS"; or "CIRCULAR", for `padding="SAME"` or "SAME_LOWER" and '
            f"`output_padding=0`; got {mode!r}, with padding {padding!r} and output_padding {output_padding}. Pad "
            f"the input by `jnp.pad` instead."
        )


class ConvTranspose1d(ConvTranspose):
    """Transpose a convolution over one spatial axis; see `ConvTranspose`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        output_padding: int | Sequence[int] = 0,
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
        """Take the arguments of `ConvTranspose`, without the first one; `output_padding` comes before `padding`.

        Example:
          >>> eqx_nn.ConvTranspose1d(2, 1, kernel_size=3, key=jr.key(0))(jnp.ones((2, 4))).shape
          (1, 6)
        """
        super().__init__(
            1,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
            use_bias,
            padding_mode,
            dtype,
            weight_init=weight_init,
            bias_init=bias_init,
            key=key,
        )


class ConvTranspose2d(ConvTranspose):
    """Transpose a convolution over two spatial axes; see `ConvTranspose`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = (1, 1),
        output_padding: int | Sequence[int] = (0, 0),
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
        """Take the arguments of `ConvTranspose`, without the first one; `output_padding` comes before `padding`.

        Example:
          >>> eqx_nn.ConvTranspose2d(2, 1, kernel_size=3, key=jr.key(0))(jnp.ones((2, 4, 4))).shape
          (1, 6, 6)
        """
        super().__init__(
            2,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
            use_bias,
            padding_mode,
            dtype,
            weight_init=weight_init,
            bias_init=bias_init,
            key=key,
        )


class ConvTranspose3d(ConvTranspose):
    """Transpose a convolution over three spatial axes; see `ConvTranspose`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = (1, 1, 1),
        output_padding: int | Sequence[int] = (0, 0, 0),
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
        """Take the arguments of `ConvTranspose`, without the first one; `output_padding` comes before `padding`.

        Example:
          >>> eqx_nn.ConvTranspose3d(2, 1, kernel_size=3, key=jr.key(0))(jnp.ones((2, 4, 4, 4))).shape
          (1, 6, 6, 6)
        """
        super().__init__(
            3,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
            use_bias,
            padding_mode,
            dtype,
            weight_init=weight_init,
            bias_init=bias_init,
            key=key,
        )
