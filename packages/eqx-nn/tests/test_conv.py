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
    {"stride": (1, 2), "padding": 1},
    {"padding": (1, 2)},
    {"padding": ((0, 1), (2, 0))},
    {"padding": -1},
    {"padding": "same"},
    {"padding": "SAME", "stride": 2},
    {"padding": "Same_Lower", "kernel_size": 2},
    {"padding": "valid", "dilation": 2},
    {"padding": "SAME", "dilation": (2, 1), "stride": 2},
    {"groups": 2},
    {"groups": 4, "use_bias": False},
    {"kernel_size": (2, 3), "dilation": 2},
    {"kernel_size": 1},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": 2, "padding_mode": "Replicate", "stride": 2},
    {"padding": (1, 2), "padding_mode": "CIRCULAR"},
    {"padding": "SAME", "padding_mode": "CIRCULAR", "dilation": 2},
    {"padding": "SAME_LOWER", "padding_mode": "REFLECT", "stride": 2, "kernel_size": 4},
    {"dtype": "float16"},
    {"dtype": "bfloat16"},
    {"dtype": "complex64", "padding": 1},
]


@pytest.mark.parametrize("kwargs", TABLE, ids=str)
def test_conv2d_is_the_peers_from_the_same_key(pair, same_arrays, kwargs):
    ours, theirs = pair("Conv2d", **{"in_channels": 4, "out_channels": 8, "kernel_size": 3, "key": KEY} | kwargs)
    x = jr.normal(KEY, (4, 7, 8)).astype(ours.weight.dtype)
    same_arrays(ours(x), theirs(x))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_each_number_of_axes_is_the_peers(pair, same_arrays, axes):
    x = jr.normal(KEY, (2, 6, 5, 4)[: axes + 1])
    ours, theirs = pair(f"Conv{axes}d", 2, 3, 3, padding="SAME", stride=2, key=KEY)
    same_arrays(ours(x), theirs(x))
    general, _ = pair("Conv", axes, 2, 3, 3, padding="SAME", stride=2, key=KEY)
    same_arrays(ours(x), general(x))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [None, "complex128"])
def test_conv_is_the_peers_with_64_bits(pair, same_arrays, dtype):
    ours, theirs = pair("Conv1d", 2, 3, 3, dtype=dtype, key=KEY)
    x = jnp.ones((2, 6), ours.weight.dtype)
    same_arrays(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("stride", "padding", "expected"),
    [
        (2, 1, ((2, 2), ((1, 1), (1, 1)))),
        (np.int64(2), np.int64(1), ((2, 2), ((1, 1), (1, 1)))),
        ((1, 2), (1, 2), ((1, 2), ((1, 1), (2, 2)))),
        ([1, np.int32(2)], [(1, 2), [3, 4]], ((1, 2), ((1, 2), (3, 4)))),
        (True, (1, (2, 3)), ((1, 1), ((1, 1), (2, 3)))),
    ],
)
def test_one_integer_stands_for_every_axis(stride, padding, expected):
    conv = eqx_nn.Conv2d(1, 1, 4, stride=stride, padding=padding, key=KEY)
    assert (conv.stride, conv.padding) == expected
    assert {type(n) for n in (*conv.stride, *conv.padding[0], *conv.padding[1])} == {int}


def _convolve(x, weight, bias, stride, dilation, groups):
    """Return the convolution of a padded image, by its definition."""
    out, per_group, *kernel = weight.shape
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    shape = [(n - e) // s + 1 for n, e, s in zip(x.shape[1:], extent, stride, strict=True)]
    y = np.zeros((out, *shape), np.float64)
    for index in np.ndindex(*y.shape):
        first = index[0] // (out // groups) * per_group
        windows = [slice(i * s, i * s + e, d) for i, s, e, d in zip(index[1:], stride, extent, dilation, strict=True)]
        y[index] = np.sum(x[(slice(first, first + per_group), *windows)] * weight[index[0]])
    return y + bias


@pytest.mark.parametrize(
    ("mode", "numpy_mode"), [("ZEROS", "constant"), ("REFLECT", "reflect"), ("REPLICATE", "edge"), ("CIRCULAR", "wrap")]
)
@pytest.mark.parametrize(("stride", "dilation", "groups"), [((1, 1), (1, 1), 1), ((2, 1), (1, 2), 2)])
def test_conv_is_its_definition(mode, numpy_mode, stride, dilation, groups):
    conv = eqx_nn.Conv2d(2, 4, (3, 2), stride, ((1, 2), (0, 1)), dilation, groups, padding_mode=mode, key=KEY)
    x = np.asarray(jr.normal(KEY, (2, 6, 7)))
    padded = np.pad(x, ((0, 0), (1, 2), (0, 1)), numpy_mode)
    expected = _convolve(padded, np.asarray(conv.weight), np.asarray(conv.bias), stride, dilation, groups)
    np.testing.assert_allclose(conv(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-5)


def test_same_padding_puts_the_odd_remainder_behind_or_before():
    x = jnp.arange(1.0, 6.0)[None]
    ones = jnp.ones((1, 1, 2))
    for name, expected in {"SAME": [3, 5, 7, 9, 5], "SAME_LOWER": [1, 3, 5, 7, 9]}.items():
        conv = eqx_nn.Conv1d(1, 1, 2, padding=name, use_bias=False, key=KEY)
        conv = jax.tree.map(lambda _: ones, conv)
        np.testing.assert_array_equal(conv(x)[0], expected)


def test_derivatives_are_those_of_an_affine_map():
    conv = eqx_nn.Conv2d(1, 2, 3, padding=1, key=KEY)
    x = jr.normal(KEY, (1, 5, 5))
    gradient = jax.grad(lambda f: f(x).sum())(conv)
    np.testing.assert_array_equal(gradient.bias.ravel(), [25, 25])
    assert gradient.weight[0, 0, 1, 1] == pytest.approx(float(x.sum()), rel=1e-5)
    y, tangent = jax.jvp(conv, (x,), (x,))
    np.testing.assert_allclose(tangent, y - conv.bias, rtol=1e-4, atol=1e-5)


def test_zero_spatial_axes_are_a_linear_map():
    conv, linear = eqx_nn.Conv(0, 3, 2, 1, key=KEY), eqx_nn.Linear(3, 2, key=KEY)
    np.testing.assert_array_equal(conv(jnp.ones(3)), linear(jnp.ones(3)))


def test_shapes_alone_make_a_layer_of_shapes():
    shapes = jax.eval_shape(lambda key: eqx_nn.Conv2d(1, 2, 3, key=key), KEY)
    assert jax.eval_shape(lambda f, x: f(x), shapes, jax.ShapeDtypeStruct((1, 5, 5), jnp.float32)).shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"kernel_size": (3,)}, "`Conv(kernel_size=...)` must be an integer, or a sequence of 2 integers"),
        ({"stride": 1.0}, "`Conv(stride=...)` must be an integer, or a sequence of 2 integers"),
        ({"stride": np.ones(2, int)}, "`Conv(stride=...)` must be an integer, or a sequence of 2 integers"),
        ({"padding": None}, "`Conv(padding=...)` must be an integer, or a sequence of 2 integers or pairs"),
        ({"padding": (1.0, 1)}, "`Conv(padding=...)` must be an integer, or a sequence of 2 integers or pairs"),
        ({"dilation": "ab"}, "`Conv(dilation=...)` must be an integer, or a sequence of 2 integers"),
        ({"padding": (1, 2, 3)}, "`Conv(padding=...)` must be an integer, or a sequence of 2 integers or pairs"),
        ({"padding": ((1, 2, 3), 1)}, "`Conv(padding=...)` must be an integer, or a sequence of 2 integers or pairs"),
        ({"padding": "FULL"}, '`Conv(padding=...)` must be one of "SAME", "SAME_LOWER", "VALID"; got \'FULL\''),
        ({"padding_mode": "MIRROR"}, '`Conv(padding_mode=...)` must be one of "ZEROS", "REFLECT"'),
        ({"groups": 3}, "`Conv(groups=...)` must divide `in_channels` and `out_channels`; got groups=3, in_channels=2"),
        ({"groups": 0}, "`Conv(groups=...)` must divide"),
        ({"groups": 2, "out_channels": 3}, "`Conv(groups=...)` must divide"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.Conv2d(**{"in_channels": 2, "out_channels": 4, "kernel_size": 3, "key": KEY} | kwargs)


@pytest.mark.parametrize("shape", [(1, 5), (2, 5, 5), (3, 1, 5, 5)])
def test_input_of_another_shape_is_refused(shape):
    got = ",".join(map(str, shape))
    message = f"`(in_channels, *spatial)` = `(1, ..., ...)`, with 2 spatial axes; got `f32[{got}]`"
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.Conv2d(1, 1, 3, key=KEY)(jnp.ones(shape))


def test_input_of_another_dtype_is_refused_by_both_names():
    with pytest.raises(TypeError, match=r"bfloat16.*float32|float32.*bfloat16"):
        eqx_nn.Conv2d(1, 1, 3, key=KEY)(jnp.ones((1, 5, 5), jnp.bfloat16))
