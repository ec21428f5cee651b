"""What convolutions and transposed convolutions have in common: their weights, and checks on their arguments."""

import math
from typing import Any

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._initialise import Draw, Initialiser
from ._per_axis import Pairs, padding_per_axis

# What `jnp.pad` calls each way of padding.
PAD_MODES = {"ZEROS": "constant", "REFLECT": "reflect", "REPLICATE": "edge", "CIRCULAR": "wrap"}
PADDINGS = ("SAME", "SAME_LOWER", "VALID")


def draw_kernel(
    layer: str,
    key: PRNGKeyArray,
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, ...],
    groups: int,
    use_bias: bool,
    dtype: Any,
    weight_init: Initialiser | None,
    bias_init: Initialiser | None,
) -> tuple[Array, Array | None]:
    """Return the weight, `[out_channels, in_channels / groups, *kernel_size]`, and the bias or None."""
    inputs = in_channels // groups
    fan_in = inputs * math.prod(kernel_size)
    limit = 1 / math.sqrt(fan_in) if fan_in else 1.0
    weight_key, bias_key = jr.split(key, 2)
    draw = Draw(layer, weight_init, bias_init, dtype, limit)
    weight = draw.weight(weight_key, (out_channels, inputs, *kernel_size), groups)
    return weight, draw.bias(bias_key, (out_channels, *[1] * len(kernel_size))) if use_bias else None


def check_groups(layer: str, in_channels: int, out_channels: int, groups: int) -> None:
    """Raise ValueError unless both numbers of channels are multiples of the number of groups."""
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(
            f"`{layer}(groups=...)` must divide `in_channels` and `out_channels`; got groups={groups}, "
            f"in_channels={in_channels}, out_channels={out_channels}. Use `groups=1` to let every output see every "
            f"input."
        )


def parse_padding(padding: Any, axes: int, argument: str) -> str | Pairs:
    """Return the padding as one of `PADDINGS`, or as a pair per axis."""
    if isinstance(padding, str):
        return _one_of(PADDINGS, padding, argument)
    return padding_per_axis(padding, axes, argument)


def parse_padding_mode(mode: str, argument: str) -> str:
    """Return what the padding consists of, as a key of `PAD_MODES`."""
    return _one_of(tuple(PAD_MODES), mode, argument)


def _one_of(names: tuple[str, ...], name: Any, argument: str) -> str:
    if isinstance(name, str) and name.upper() in names:
        return name.upper()
    known = ", ".join(f'"{known}"' for known in names)
    raise ValueError(f"`{argument}` must be one of {known}; got {name!r}. Upper and lower case are the same.")


def check_channels(layer: str, x: Array, channels: int, axes: int) -> None:
    """Raise ValueError unless `x` has `channels` channels and `axes` spatial axes."""
    shape = jnp.shape(x)
    if len(shape) != axes + 1 or shape[0] != channels:
        expected = ", ".join([str(channels), *["..."] * axes])
        raise ValueError(
            f"`{layer}.__call__(x)` must have shape `(in_channels, *spatial)` = `({expected})`, with {axes} spatial "
            f"axes; got `{eqx_core.tree_pformat(x)}`. To apply it to a batch, use `jax.vmap(layer)(x)`."
        )
