"""`LayerNorm` and `RMSNorm`: the same arguments and rules, two formulas."""

import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_nn

KEY = jr.key(0)
DTYPES = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 1e-3}
NORMS = {"LayerNorm": eqx_nn.LayerNorm, "RMSNorm": eqx_nn.RMSNorm}
both = pytest.mark.parametrize("name", NORMS)


def _formula(name, x, eps=1e-5):
    """Return what the norm of that name does before it scales and shifts, by NumPy or JAX."""
    centred = x - x.mean() if name == "LayerNorm" else x
    return centred / ((centred**2).mean() + eps) ** 0.5


@pytest.mark.parametrize(
    ("kwargs", "dtype"),
    [
        ({"shape": 6}, "float32"),
        ({"shape": 6}, "bfloat16"),
        ({"shape": 6}, "float16"),
        ({"shape": (2, 3)}, "float32"),
        ({"shape": [6], "use_bias": False}, "float32"),
        ({"shape": 6, "use_weight": False, "eps": 0.1}, "float32"),
        ({"shape": ()}, "float32"),
        ({"shape": 6, "dtype": "bfloat16"}, "float32"),
        ({"shape": 6, "dtype": "bfloat16"}, "bfloat16"),
    ],
    ids=str,
)
@both
def test_a_norm_is_the_peers(pair, name, kwargs, dtype):
    ours, theirs = pair(name, **kwargs)
    x = (3 + 2 * jr.normal(KEY, ours.shape)).astype(dtype)
    out = ours(x)
    assert out.dtype == x.dtype
    np.testing.assert_allclose(
        *(np.asarray(y, "float32") for y in (out, theirs(x))), rtol=DTYPES[dtype], atol=DTYPES[dtype]
    )


@both
def test_a_norm_is_its_definition(name):
    norm = NORMS[name](6)
    x = np.asarray(jr.normal(KEY, (6,)), np.float64)
    weight, bias = np.arange(6.0), np.arange(6.0) - 3
    norm = jax.tree.unflatten(jax.tree.structure(norm), [jnp.asarray(weight, "float32"), jnp.asarray(bias, "float32")])
    expected = _formula(name, x) * weight + bias
    np.testing.assert_allclose(norm(jnp.asarray(x, "float32")), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("x64")
@both
def test_64_bits_stay_64_bits(name):
    x = jr.normal(KEY, (6,))
    out = NORMS[name](6)(x)
    assert x.dtype == out.dtype == jnp.float64
    np.testing.assert_allclose(out, _formula(name, np.asarray(x)), rtol=1e-12)


@both
def test_low_precision_statistics_are_computed_in_float32(name):
    x = jnp.linspace(0, 300, 512).astype(jnp.float16)  # Squares overflow in float16.
    out = NORMS[name](512)(x)
    assert out.dtype == jnp.float16
    np.testing.assert_allclose(out, _formula(name, np.asarray(x, np.float64)), atol=2e-3)


@both
def test_derivatives_of_every_kind_are_those_of_the_formula(name):
    norm = NORMS[name](4)

    @jax.jit
    def derivatives(x):
        functions = (norm, lambda x: _formula(name, x))
        kinds = [[kind(f)(x) for f in functions] for kind in (jax.jacfwd, jax.jacrev, jax.hessian)]
        return kinds, jax.jacrev(lambda n: n(x))(norm)

    x = jr.normal(KEY, (4,))
    kinds, jacobian = derivatives(x)
    for found, expected in kinds:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(jacobian.weight, np.diag(_formula(name, np.asarray(x))), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(jacobian.bias, np.eye(4))


@both
def test_a_state_is_handed_on(name):
    state = object()
    out, same = NORMS[name](4)(jnp.ones(4), state)
    assert same is state
    assert out.shape == (4,)
    assert NORMS[name](4)(jnp.ones(4), None)[1] is None


@both
def test_deep_networks_compile_without_repeating_themselves(name):
    """XLA on CPUs would compute all that leads to a norm once for each use in the norm, and so on upwards."""

    def lines(depth):
        blocks = [(NORMS[name](8), eqx_nn.Linear(8, 8, key=jr.key(i))) for i in range(depth)]

        def loss(blocks, x):
            for norm, linear in blocks:
                x = x + jax.vmap(linear)(jax.nn.gelu(jax.vmap(norm)(x)))
            return (x**2).sum()

        return jax.jit(jax.grad(loss)).lower(blocks, jnp.ones((4, 8))).compile().as_text().count("\n")

    assert lines(12) < 2.3 * lines(6)


@pytest.mark.parametrize("shape", [(2, 6), (5,), ()])
@both
def test_input_of_another_shape_is_refused(name, shape):
    with pytest.raises(ValueError, match=re.escape(f"`{name}.__call__(x)` must have shape `shape` = `(6,)`; got")):
        NORMS[name](6)(jnp.ones(shape))


def test_the_old_name_of_the_flags_warns():
    with pytest.warns(UserWarning, match=re.escape("`LayerNorm(elementwise_affine=...)` is deprecated")):
        norm = eqx_nn.LayerNorm(6, elementwise_affine=False)
    assert (norm.use_weight, norm.use_bias, norm.weight, norm.bias) == (False, False, None, None)
