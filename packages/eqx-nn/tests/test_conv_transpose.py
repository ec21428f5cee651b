import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_nn

KEY = jr.key(0)

TABLE = [
    {},
    {"stride": 2},
    {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)},
    {"padding": (1, 2), "dilation": 2},
    {"padding": ((0, 1), (2, 0)), "stride": 2},
    {"padding": "same"},
    {"padding": "SAME", "stride": 2},
    {"padding": "SAME", "stride": 3, "output_padding": 2},
    {"padding": "SAME_LOWER", "stride": 2, "kernel_size": 4},
    {"padding": "SAME", "stride": 4, "kernel_size": 2},
    {"padding": "VALID", "stride": 2, "output_padding": 1},
    {"groups": 2},
    {"groups": 4, "use_bias": False, "stride": 2},
    {"padding": "SAME", "padding_mode": "circular"},
    {"padding": "SAME", "padding_mode": "CIRCULAR", "stride": 2, "kernel_size": 4},
    {"padding": "SAME_LOWER", "padding_mode": "CIRCULAR", "stride": 2, "dilation": 2},
    {"dtype": "float16"},
    {"dtype": "bfloat16", "stride": 2},
    {"dtype": "complex64"},
]


@pytest.mark.parametrize("kwargs", TABLE, ids=str)
def test_conv_transpose_is_the_peers_from_the_same_key(pair, same_arrays, kwargs):
    kwargs = {"in_channels": 4, "out_channels": 8, "kernel_size": 3, "key": KEY} | kwargs
    ours, theirs = pair("ConvTranspose2d", **kwargs)
    x = jr.normal(KEY, (4, 5, 6)).astype(ours.weight.dtype)
    same_arrays(ours(x), theirs(x))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_each_number_of_axes_is_the_peers_in_its_own_order_of_arguments(pair, same_arrays, axes):
    x = jr.normal(KEY, (2, 4, 3, 3)[: axes + 1])
    ours, theirs = pair(f"ConvTranspose{axes}d", 2, 3, 3, 2, 1, 0, key=KEY)
    assert (ours.output_padding, ours.padding) == ((1,) * axes, ((0, 0),) * axes)
    same_arrays(ours(x), theirs(x))
    ours, theirs = pair("ConvTranspose", axes, 2, 3, 3, 2, 1, 0, key=KEY)
    assert (ours.output_padding, ours.padding) == ((0,) * axes, ((1, 1),) * axes)
    same_arrays(ours(x), theirs(x))


def _transposed(conv, **kwargs):
    """Return the transpose of a convolution without groups and bias."""
    transposed = eqx_nn.ConvTranspose1d(
        conv.out_channels, conv.in_channels, conv.kernel_size, use_bias=False, key=KEY, **kwargs
    )
    return jax.tree.map(lambda _: jnp.flip(conv.weight, 2).swapaxes(0, 1), transposed)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"stride": 2},
        {"stride": 2, "padding": 1},
        {"padding": ((1, 2),), "dilation": 2},
        {"stride": 2, "padding": "SAME"},
        {"stride": 2, "padding": "SAME_LOWER"},
        {"stride": 2, "padding": "SAME", "padding_mode": "CIRCULAR"},
        {"stride": 3, "padding": "VALID"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kernel_size", [3, 4])
def test_it_is_the_transpose_of_the_convolution(kwargs, kernel_size):
    conv = eqx_nn.Conv1d(2, 3, kernel_size, use_bias=False, key=KEY, **kwargs)
    x = jr.normal(KEY, (2, 12))
    y, transpose = jax.vjp(conv, x)
    # What the stride leaves over at the end of the convolution's input, the transpose cannot know of.
    transposed = _transposed(conv, **kwargs)
    size = transposed(y).shape[1]
    more = 12 - size
    if more:
        transposed = _transposed(conv, **kwargs, output_padding=more)
    np.testing.assert_allclose(transposed(y), transpose(y)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"stride": (1, 2, 3)}, "`ConvTranspose(stride=...)` must be an integer, or a sequence of 2 integers"),
        ({"padding": "FULL"}, '`ConvTranspose(padding=...)` must be one of "SAME"'),
        ({"padding_mode": "MIRROR"}, '`ConvTranspose(padding_mode=...)` must be one of "ZEROS"'),
        ({"groups": 3}, "`ConvTranspose(groups=...)` must divide"),
        (
            {"output_padding": 1},
            "`ConvTranspose(output_padding=...)` must be less than `stride` = (1, 1) for each axis",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.ConvTranspose2d(**{"in_channels": 2, "out_channels": 4, "kernel_size": 3, "key": KEY} | kwargs)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"padding_mode": "REFLECT"},
        {"padding_mode": "REPLICATE", "padding": "SAME"},
        {"padding_mode": "CIRCULAR"},
        {"padding_mode": "CIRCULAR", "padding": "VALID"},
        {"padding_mode": "CIRCULAR", "padding": "SAME", "stride": 2, "output_padding": 1},
    ],
)
def test_modes_that_have_no_transpose_are_refused(kwargs):
    with pytest.raises(
        NotImplementedError, match=r'`ConvTranspose\(padding_mode=...\)` must be "ZEROS"; or "CIRCULAR"'
    ):
        eqx_nn.ConvTranspose2d(2, 2, 3, **kwargs, key=KEY)


def test_input_of_another_shape_is_refused():
    with pytest.raises(
        ValueError, match=re.escape("`ConvTranspose.__call__(x)` must have shape `(in_channels, *spatial)`")
    ):
        eqx_nn.ConvTranspose2d(1, 1, 3, key=KEY)(jnp.ones((2, 5, 5)))
