import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_nn

KEY = jr.key(0)
X = jr.normal(KEY, (2, 7, 6))
# Their sums are exact, in whatever order they are added.
WHOLE = jnp.round(8 * X)

TABLE = [
    (2,),
    (3, 2),
    ((2, 3), (1, 2)),
    (2, 2, 1),
    (2, 2, (1, 2)),
    (3, 1, ((0, 2), (1, 0))),
    (2, 1, -1),
    (2, 2, 0, True),
    (3, 2, 1, True),
    (4, 3, 0, True),
    (9,),
]


@pytest.mark.parametrize("args", TABLE, ids=str)
@pytest.mark.parametrize("kind", ["Max", "Avg"])
def test_pools_are_the_peers(pair, same_arrays, kind, args):
    ours, theirs = pair(f"{kind}Pool2d", *args)
    assert (ours.init, ours.operation) == (theirs.init, theirs.operation)
    same_arrays(ours(WHOLE), theirs(WHOLE))
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Max", "Avg"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "uint8"])
def test_each_number_of_axes_and_dtype_is_the_peers(pair, same_arrays, kind, axes, dtype):
    x = jnp.round(10 * jr.uniform(KEY, (2, 4, 3, 3)[: axes + 1])).astype(dtype)
    ours, theirs = pair(f"{kind}Pool{axes}d", 2, 1, 1)
    same_arrays(ours(x), theirs(x))


def _pool(reduce, x, kernel, stride, padding, fill):
    padded = np.pad(x, ((0, 0), *padding), constant_values=fill)
    shape = [(n - k) // s + 1 for n, k, s in zip(padded.shape[1:], kernel, stride, strict=True)]
    out = np.zeros((len(x), *shape), x.dtype)
    for index in np.ndindex(*shape):
        window = [slice(i * s, i * s + k) for i, s, k in zip(index, stride, kernel, strict=True)]
        out[(slice(None), *index)] = reduce(padded[(slice(None), *window)], axis=(1, 2))
    return out


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((2, 3), (1, 2), ((1, 0), (2, 3))), ((3, 3), (2, 2), ((0, 0), (1, 1))), ((6, 6), (1, 1), ((1, 0), (0, 0)))],
)
def test_pools_are_their_definitions(kernel, stride, padding):
    x = np.asarray(X)
    ours = eqx_nn.MaxPool2d(kernel, stride, padding)(X)
    np.testing.assert_array_equal(ours, _pool(np.max, x, kernel, stride, padding, -np.inf))
    ours = eqx_nn.AvgPool2d(kernel, stride, padding)(X)
    np.testing.assert_allclose(ours, _pool(np.mean, x, kernel, stride, padding, 0), rtol=1e-5, atol=1e-6)


def test_any_operation_will_do():
    product = eqx_nn.Pool(jnp.array(1.0), jax.lax.mul, num_spatial_dims=1, kernel_size=2)
    np.testing.assert_array_equal(product(jnp.arange(1.0, 5.0)[None]), [[2, 6, 12]])


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (-jnp.arange(4), [0, 0, -1, -2, -3]),
        (jnp.arange(4, dtype=jnp.uint8), [0, 1, 2, 3, 3]),
        (jnp.array([False, False, False, True]), [False, False, False, True, True]),
        (-jnp.arange(4.0), [0, 0, -1, -2, -3]),
    ],
)
def test_padding_never_wins_a_maximum(x, expected):
    out = eqx_nn.MaxPool1d(2, 1, 1)(x[None])
    assert out.dtype == x.dtype
    np.testing.assert_array_equal(out[0], expected)


def test_smallest_value_starts_from_the_highest():
    pool = eqx_nn.Pool(jnp.inf, jax.lax.min, 1, 2, padding=1)
    np.testing.assert_array_equal(pool(jnp.arange(3)[None])[0], [0, 0, 1, 2])
    np.testing.assert_array_equal(pool(jnp.array([[True, False]]))[0], [True, False, False])


@pytest.mark.parametrize("kind", ["Max", "Avg"])
def test_derivatives_go_to_the_entries_of_each_window(kind):
    pool = getattr(eqx_nn, f"{kind}Pool2d")(2, 2)
    x = jr.normal(KEY, (2, 4, 4))
    gradient = jax.jit(jax.grad(lambda x: pool(x).sum()))(x)
    blocks = x.reshape(2, 2, 2, 2, 2)
    largest = (blocks == blocks.max((2, 4), keepdims=True)).reshape(2, 4, 4)
    np.testing.assert_array_equal(gradient, largest if kind == "Max" else jnp.full((2, 4, 4), 0.25))
    _, tangent = jax.jvp(pool, (x,), (jnp.ones((2, 4, 4)),))
    np.testing.assert_array_equal(tangent, jnp.ones((2, 2, 2)))


def test_empty_output_is_allowed():
    assert eqx_nn.MaxPool1d(9)(jnp.ones((2, 4))).shape == (2, 0)
    assert eqx_nn.AvgPool1d(9)(jnp.ones((2, 4))).shape == (2, 0)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (((1, 2, 3),), "`Pool(kernel_size=...)` must be an integer, or a sequence of 2 integers"),
        ((2, 1.0), "`Pool(stride=...)` must be an integer, or a sequence of 2 integers"),
        ((2, 1, "same"), "`Pool(padding=...)` must be an integer, or a sequence of 2 integers or pairs"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(args, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.MaxPool2d(*args)


def test_too_much_padding_is_refused():
    message = "`MaxPool2d(padding=...)` must be at most the kernel size, or some windows would hold nothing but padding"
    with pytest.raises(RuntimeError, match=re.escape(message) + r"; got padding \(3, 3\) for kernel size 2"):
        eqx_nn.MaxPool2d(2, padding=3)(X)
    with pytest.raises(RuntimeError, match=r"got padding \(0, 3\), that of `use_ceil` included, for kernel size 2"):
        eqx_nn.MaxPool1d(2, 3, use_ceil=True)(jnp.ones((1, 3)))


def test_input_of_another_rank_is_refused():
    message = "`AvgPool2d.__call__(x)` must have shape `(channels, *spatial)`, with 2 spatial axes; got `f32[3,2,7,6]`"
    with pytest.raises(AssertionError, match=re.escape(message)):
        eqx_nn.AvgPool2d(2)(jnp.stack([X] * 3))
