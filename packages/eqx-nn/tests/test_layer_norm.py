import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_nn

KEY = jr.key(0)
DTYPES = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 1e-3}


@pytest.mark.parametrize(
    "kwargs",
    [
        {"shape": 6},
        {"shape": (2, 3)},
        {"shape": [6], "use_bias": False},
        {"shape": 6, "use_weight": False, "eps": 0.1},
        {"shape": ()},
        {"shape": 6, "dtype": "bfloat16"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_is_the_peers(pair, kwargs, dtype):
    ours, theirs = pair("LayerNorm", **kwargs)
    x = (3 + 2 * jr.normal(KEY, ours.shape)).astype(dtype)
    out = ours(x)
    assert out.dtype == x.dtype
    np.testing.assert_allclose(
        *(np.asarray(y, "float32") for y in (out, theirs(x))), rtol=DTYPES[dtype], atol=DTYPES[dtype]
    )


def test_layer_norm_is_its_definition():
    norm = eqx_nn.LayerNorm(6)
    x = np.asarray(jr.normal(KEY, (6,)), np.float64)
    weight, bias = np.arange(6.0), np.arange(6.0) - 3
    norm = jax.tree.unflatten(jax.tree.structure(norm), [jnp.asarray(weight, "float32"), jnp.asarray(bias, "float32")])
    expected = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias
    np.testing.assert_allclose(norm(jnp.asarray(x, "float32")), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_64_bits_stay_64_bits():
    x = jr.normal(KEY, (6,))
    out = eqx_nn.LayerNorm(6)(x)
    assert x.dtype == out.dtype == jnp.float64
    np.testing.assert_allclose(out, (x - x.mean()) / jnp.sqrt(x.var() + 1e-5), rtol=1e-12)


def test_low_precision_statistics_are_computed_in_float32():
    x = jnp.linspace(0, 300, 512).astype(jnp.float16)  # Squares overflow in float16.
    out = eqx_nn.LayerNorm(512)(x)
    assert out.dtype == jnp.float16
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(out, (wide - wide.mean()) / wide.std(), atol=2e-3)


def test_derivatives_of_every_kind_are_those_of_the_formula():
    norm = eqx_nn.LayerNorm(4)
    x = jr.normal(KEY, (4,))

    def formula(x):
        return (x - x.mean()) / jnp.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)

    for transform in (jax.jacfwd, jax.jacrev, jax.hessian):
        np.testing.assert_allclose(transform(norm)(x), transform(formula)(x), rtol=1e-3, atol=1e-3)
    jacobian = jax.jacrev(lambda n: n(x))(norm)
    np.testing.assert_allclose(jacobian.weight, jnp.diag(formula(x)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(jacobian.bias, jnp.eye(4))


def test_layer_norm_works_under_jit_and_vmap():
    norm = eqx_nn.LayerNorm(4)
    xs = jr.normal(KEY, (3, 4))
    np.testing.assert_allclose(jax.jit(jax.vmap(norm))(xs), jnp.stack([norm(x) for x in xs]), rtol=1e-5, atol=1e-6)


def test_a_state_is_handed_on():
    state = object()
    out, same = eqx_nn.LayerNorm(4)(jnp.ones(4), state)
    assert same is state
    assert out.shape == (4,)
    assert eqx_nn.LayerNorm(4)(jnp.ones(4), None)[1] is None


def test_deep_networks_compile_without_repeating_themselves():
    """XLA on CPUs would compute all that leads to a norm once for each use in the norm, and so on upwards."""

    def lines(depth):
        blocks = [(eqx_nn.LayerNorm(8), eqx_nn.Linear(8, 8, key=jr.key(i))) for i in range(depth)]

        def loss(blocks, x):
            for norm, linear in blocks:
                x = x + jax.vmap(linear)(jax.nn.gelu(jax.vmap(norm)(x)))
            return (x**2).sum()

        return jax.jit(jax.grad(loss)).lower(blocks, jnp.ones((4, 8))).compile().as_text().count("\n")

    assert lines(12) < 2.3 * lines(6)


@pytest.mark.parametrize("shape", [(2, 6), (5,), ()])
def test_input_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=re.escape("`LayerNorm.__call__(x)` must have shape `shape` = `(6,)`; got")):
        eqx_nn.LayerNorm(6)(jnp.ones(shape))


def test_the_old_name_of_the_flags_warns():
    with pytest.warns(UserWarning, match=re.escape("`LayerNorm(elementwise_affine=...)` is deprecated")):
        norm = eqx_nn.LayerNorm(6, elementwise_affine=False)
    assert (norm.use_weight, norm.use_bias, norm.weight, norm.bias) == (False, False, None, None)
