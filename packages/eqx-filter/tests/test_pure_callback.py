"""`filter_pure_callback` calls back into Python with anything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqx_filter import filter_jit, filter_pure_callback

STRUCT = jax.ShapeDtypeStruct((3,), jnp.float32)
X = np.array([1.0, 2.0, 3.0], np.float32)


def scaled(x, factor, *, name):
    return {"x": np.asarray(x) * np.float32(factor), "name": name}


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, filter_jit])
def test_it_returns_what_the_function_does(wrap):
    def fun(x):
        announced = {"x": STRUCT, "name": "scaled"}
        return filter_pure_callback(scaled, x, 2.0, name="scaled", result_shape_dtypes=announced)["x"] + 1

    np.testing.assert_array_equal(wrap(fun)(jnp.asarray(X)), 2 * X + 1)


def test_what_is_no_array_goes_in_and_out_as_it_is():
    marker, seen = object(), []

    def callback(*args, **kwargs):
        seen.append((args, kwargs))
        return args[0], "text", marker, None, {1}

    out = filter_pure_callback(
        callback, X, 1, len, name=marker, result_shape_dtypes=(STRUCT, "text", marker, None, {1})
    )
    assert out[1:] == ("text", marker, None, {1})
    assert seen[0][0][1:] == (1, len)
    assert seen[0][1] == {"name": marker}
    np.testing.assert_array_equal(out[0], X)


def test_arrays_announce_their_likes():
    for like in (jnp.zeros(3), np.zeros(3, np.float32)):
        np.testing.assert_array_equal(filter_pure_callback(lambda x: x, X, result_shape_dtypes=like), X)


def test_a_function_without_arguments_can_be_called():
    assert filter_pure_callback(lambda: "text", result_shape_dtypes="text") == "text"
    np.testing.assert_array_equal(filter_pure_callback(lambda: X, result_shape_dtypes=STRUCT), X)


def test_dtypes_stay():
    for dtype in (jnp.bfloat16, jnp.int8, jnp.bool_):
        struct = jax.ShapeDtypeStruct((2,), dtype)
        out = filter_pure_callback(lambda x: x, jnp.ones(2, dtype), result_shape_dtypes=struct)
        assert out.dtype == dtype


def test_it_is_called_when_the_program_runs():
    calls = []

    @jax.jit
    def fun(x):
        return filter_pure_callback(lambda x: (calls.append(None), x)[1], x, result_shape_dtypes=x)

    for _ in range(2):
        fun(jnp.ones(3)).block_until_ready()
    assert len(calls) == 2


@pytest.mark.parametrize(
    "option",
    [
        {"vmap_method": "sequential"},
        {"vmap_method": "expand_dims"},
        {"vmap_method": "broadcast_all"},
        {"vectorized": True},
        {"vectorized": False},
    ],
)
def test_it_is_mapped_as_asked(option):
    shapes = []

    def callback(x):
        shapes.append(x.shape)
        return 2 * np.asarray(x)

    xs = jnp.stack([X, X + 1])
    out = jax.vmap(lambda x: filter_pure_callback(callback, x, result_shape_dtypes=STRUCT, **option))(xs)
    np.testing.assert_array_equal(out, 2 * np.asarray(xs))
    one_by_one = option in ({"vmap_method": "sequential"}, {"vectorized": False})
    assert set(shapes) == ({(3,)} if one_by_one else {(2, 3)})


def test_it_is_not_mapped_unasked():
    with pytest.raises(NotImplementedError, match="vmap_method"):
        jax.vmap(lambda x: filter_pure_callback(lambda x: x, x, result_shape_dtypes=STRUCT))(jnp.ones((2, 3)))


def test_it_is_called_from_a_device():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    out = jax.jit(lambda x: filter_pure_callback(lambda x: x, x, result_shape_dtypes=STRUCT, sharding=sharding))(X)
    np.testing.assert_array_equal(out, X)


@pytest.mark.parametrize(
    ("announced", "message"),
    [
        ((STRUCT, "other"), "`'other'`; got `'text'`"),
        ((STRUCT, 1), "got `'text'`"),
        (STRUCT, "the structure"),
        ((STRUCT, None), "the structure"),
    ],
)
def test_other_results_than_announced_are_refused(announced, message):
    with pytest.raises(RuntimeError, match=r"filter_pure_callback\(callback=...\)` must return") as error:
        jax.block_until_ready(filter_pure_callback(lambda x: (x, "text"), X, result_shape_dtypes=announced))
    assert message in str(error.value)


def test_what_is_announced_must_be_given():
    with pytest.raises(TypeError, match="result_shape_dtypes"):
        filter_pure_callback(lambda x: x, X)


def test_old_and_new_form_of_an_option_exclude_each_other():
    with pytest.raises(ValueError, match=r"`filter_pure_callback\(vectorized=...\)` must not be given beside"):
        filter_pure_callback(lambda x: x, X, result_shape_dtypes=STRUCT, vectorized=True, vmap_method="sequential")


def test_it_has_no_derivative():
    with pytest.raises(ValueError, match="JVP"):
        jax.grad(lambda x: filter_pure_callback(lambda x: x, x, result_shape_dtypes=x))(1.0)


def test_only_what_was_seen_as_an_array_is_passed_as_one():
    kinds = []

    def callback(x, y, z):
        kinds.append((isinstance(x, (np.ndarray, jax.Array)), type(y), type(z)))
        return x

    filter_pure_callback(callback, np.float32(1), 1.0, True, result_shape_dtypes=jax.ShapeDtypeStruct((), jnp.float32))
    assert kinds == [(True, float, bool)]
