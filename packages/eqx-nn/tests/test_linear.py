import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core
import eqx_nn

KEY = jr.key(0)


SIZES = [(3, 4), ("scalar", 2), (3, "scalar"), ("scalar", "scalar"), (0, 2), (2, 0)]
DTYPES = ["float32", "float16", "bfloat16", "complex64"]


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(
    ("sizes", "dtype"), [*((sizes, None) for sizes in SIZES), *(((3, 4), dtype) for dtype in DTYPES)], ids=str
)
def test_linear_is_the_peers_from_the_same_key(pair, same_arrays, sizes, dtype, use_bias):
    ours, theirs = pair("Linear", *sizes, use_bias, dtype, key=KEY)
    x = jr.normal(jr.key(1), () if sizes[0] == "scalar" else sizes[:1]).astype(ours.weight.dtype)
    same_arrays(ours(x), theirs(x))
    same_arrays(jax.jit(type(ours).__call__)(ours, x), jax.jit(type(theirs).__call__)(theirs, x))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [None, "float64", "complex128", "float32"])
def test_linear_is_the_peers_with_64_bits(pair, same_arrays, dtype):
    ours, theirs = pair("Linear", 3, 2, dtype=dtype, key=KEY)
    x = jnp.ones(3, ours.weight.dtype)
    same_arrays(ours(x), theirs(x))


@given(inputs=st.integers(0, 3), outputs=st.integers(0, 3), use_bias=st.booleans())
def test_linear_multiplies_by_the_weight_and_adds_the_bias(inputs, outputs, use_bias):
    linear = eqx_nn.Linear(inputs, outputs, use_bias, key=KEY)
    x = np.linspace(-1, 1, inputs, dtype=np.float32)
    expected = np.asarray(linear.weight) @ x + (np.asarray(linear.bias) if use_bias else 0)
    np.testing.assert_allclose(linear(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)


def test_scalars_are_vectors_of_size_one():
    scalar, vector = eqx_nn.Linear("scalar", "scalar", key=KEY), eqx_nn.Linear(1, 1, key=KEY)
    assert scalar(jnp.array(2.0)).shape == ()
    assert scalar(2.0) == vector(jnp.array([2.0]))[0]


@pytest.mark.usefixtures("x64")
def test_default_dtype_is_of_64_bits_where_they_are_enabled():
    assert eqx_nn.Linear(2, 2, key=KEY).weight.dtype == jnp.float64


def test_real_and_imaginary_parts_are_independent():
    weight = np.asarray(eqx_nn.Linear(4, 4000, dtype="complex64", key=KEY).weight)
    assert abs(np.corrcoef(weight.real.ravel(), weight.imag.ravel())[0, 1]) < 0.05
    for part in (weight.real, weight.imag):
        assert -0.5 <= part.min() < -0.49
        assert 0.49 < part.max() < 0.5


def test_parameters_are_uniform_within_the_limit():
    linear = eqx_nn.Linear(16, 4000, key=KEY)
    for array in (linear.weight, linear.bias):
        assert jnp.max(jnp.abs(array)) <= 0.25
        assert jnp.abs(jnp.var(array) - 0.5**2 / 12) < 1e-3
        assert jnp.abs(jnp.mean(array)) < 1e-2


def test_gradients_are_those_of_the_formula():
    linear = eqx_nn.Linear(3, 2, key=KEY)
    x = jnp.array([1.0, -2.0, 3.0])
    weights = jnp.array([1.0, 10.0])
    gradient = jax.grad(lambda f: weights @ f(x))(linear)
    np.testing.assert_array_equal(gradient.weight, jnp.outer(weights, x))
    np.testing.assert_array_equal(gradient.bias, weights)


def test_linear_maps_over_batches_and_over_layers():
    linear = eqx_nn.Linear(3, 2, key=KEY)
    xs = jr.normal(KEY, (5, 3))
    np.testing.assert_allclose(jax.vmap(linear)(xs), jnp.stack([linear(x) for x in xs]), rtol=1e-6)
    keys = jr.split(KEY, 5)
    many = jax.vmap(lambda key: eqx_nn.Linear(3, 2, key=key))(keys)
    each = [eqx_nn.Linear(3, 2, key=key)(x) for key, x in zip(keys, xs, strict=True)]
    np.testing.assert_allclose(jax.vmap(lambda f, x: f(x))(many, xs), jnp.stack(each), rtol=1e-6)


def test_shapes_alone_make_a_layer_of_shapes():
    shapes = jax.eval_shape(lambda key: eqx_nn.Linear(3, 2, key=key), KEY)
    assert shapes.weight == jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert jax.eval_shape(lambda f, x: f(x), shapes, jax.ShapeDtypeStruct((3,), jnp.float32)).shape == (2,)


def test_forward_mode_and_second_derivatives_work():
    linear = eqx_nn.Linear(3, 2, key=KEY)
    np.testing.assert_array_equal(jax.jacfwd(linear)(jnp.ones(3)), linear.weight)
    assert not jax.hessian(linear)(jnp.ones(3)).any()


def test_dtypes_are_never_promoted():
    linear = eqx_nn.Linear(3, 2, dtype="bfloat16", key=KEY)
    assert linear(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16
    with pytest.raises(Exception, match=r"bfloat16.*float32|float32.*bfloat16"):
        linear(jnp.ones(3))


@pytest.mark.parametrize(
    ("sizes", "x", "message"),
    [
        ((4, 2), jnp.ones((8, 4)), "must have shape `(in_features,)` = `(4,)`; got `f32[8,4]`"),
        ((4, 2), jnp.ones(3), "must have shape `(in_features,)` = `(4,)`; got `f32[3]`"),
        (("scalar", 2), jnp.ones(1), "must have shape `()` = `()`; got `f32[1]`"),
    ],
)
def test_input_of_another_shape_is_refused(sizes, x, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        eqx_nn.Linear(*sizes, key=KEY)(x)
    assert "jax.vmap(linear)(x)" in str(error.value)


@pytest.mark.parametrize(
    ("sizes", "name"), [((-1, 2), "in_features"), ((1, "vector"), "out_features"), ((1.0, 1), "in")]
)
def test_sizes_that_are_none_are_refused(sizes, name):
    with pytest.raises(ValueError, match=rf"`Linear\({name}.*must be an integer of at least 0, or \"scalar\"; got"):
        eqx_nn.Linear(*sizes, key=KEY)


def test_the_key_is_needed():
    with pytest.raises(TypeError, match="key"):
        eqx_nn.Linear(1, 1)


def test_identity_returns_its_input_itself():
    x = object()
    assert eqx_nn.Identity(1, two=2)(x, key=KEY) is x
    assert eqx_nn.Identity(1) == eqx_nn.Identity()
    assert jax.tree.leaves(eqx_nn.Identity()) == []


def test_surgery_changes_the_map():
    linear = eqx_nn.Linear(3, 2, key=KEY)
    doubled = eqx_core.tree_at(lambda f: (f.weight, f.bias), linear, replace_fn=lambda x: 2 * x)
    np.testing.assert_array_equal(doubled(jnp.ones(3)), 2 * linear(jnp.ones(3)))
