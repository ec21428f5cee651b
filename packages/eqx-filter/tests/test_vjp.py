import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.test_util import check_vjp

import eqx_core
import eqx_filter
from eqx_filter import filter_vjp

TWO, THREE = jnp.array(2.0), jnp.array(3.0)


class Affine(eqx_core.Module):
    weight: jax.Array
    count: int
    act: object

    def __call__(self, x):
        return self.act(self.weight * x) * self.count


@settings(max_examples=20)
@given(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32), st.floats(-3, 3, width=32))
def test_on_arrays_it_is_jax_vjp(x, y, ct):
    def fun(x, y):
        return {"a": jnp.sin(x) * y, "b": x}

    primals, cts = (jnp.float32(x), jnp.float32(y)), {"a": jnp.float32(ct), "b": jnp.float32(1)}
    (out, vjp_fn), (expected, expected_fn) = filter_vjp(fun, *primals), jax.vjp(fun, *primals)
    assert out == expected
    assert vjp_fn(cts) == expected_fn(cts)


def test_on_models_it_is_vjp_of_a_partition():
    model = Affine(TWO, 3, jnp.tanh)
    out, vjp_fn = filter_vjp(lambda m, x: m(x), model, THREE)
    expected, expected_fn = jax.vjp(lambda w, x: Affine(w, 3, jnp.tanh)(x), TWO, THREE)
    assert out == expected
    assert vjp_fn(jnp.array(1.0)) == (
        Affine(expected_fn(jnp.array(1.0))[0], None, None),
        expected_fn(jnp.array(1.0))[1],
    )


def test_it_agrees_with_finite_differences():
    def fun(x):
        return jnp.sin(x) * x

    check_vjp(fun, lambda x: filter_vjp(fun, x), (TWO,), atol=1e-2, rtol=1e-2)


def test_outputs_may_be_anything():
    def fun(x, n):
        return (x**2, n, "s", jnp.array(1), None, jnp.sin, jr.key(0))

    out, vjp_fn = filter_vjp(fun, THREE, 4)
    assert out[:6] == (9.0, 4, "s", 1, None, jnp.sin)
    assert vjp_fn((jnp.array(1.0), None, None, None, None, None, None)) == (6.0, None)


def test_only_inexact_arrays_have_a_cotangent():
    x = ({"x": THREE, "n": jnp.array(2), "f": 1.0, "s": "s"}, np.float32(2))
    out, vjp_fn = filter_vjp(lambda x: x[0]["x"] * x[1], x)
    assert out == 6.0
    assert vjp_fn(jnp.array(1.0)) == (({"x": 2.0, "n": None, "f": None, "s": None}, 3.0),)


def test_aux_may_be_anything():
    out, vjp_fn, aux = filter_vjp(lambda x: (x**2, (x, "s", None, jnp.sin)), THREE, has_aux=True)
    assert out == 9.0
    assert aux == (3.0, "s", None, jnp.sin)
    assert vjp_fn(jnp.array(1.0)) == (6.0,)


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, eqx_filter.filter_jit, eqx_filter.filter_checkpoint])
def test_it_goes_around_other_transformations(wrap):
    out, vjp_fn = filter_vjp(wrap(lambda x, y: (x * y, jnp.argmax(x))), THREE, TWO)
    assert out == (6.0, 0)
    assert vjp_fn((jnp.array(1.0), None)) == (2.0, 3.0)


def test_it_goes_under_other_transformations():
    def pull(x, ct):
        return filter_vjp(lambda x, s: (jnp.sin(x), s), x, "s")[1]((ct, None))[0]

    expected = 2 * np.cos(3.0)
    for transformed in (jax.jit(pull), eqx_filter.filter_jit(pull), pull):
        np.testing.assert_allclose(transformed(THREE, TWO), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(pull)(jnp.full(2, 3.0), jnp.full(2, 2.0)), [expected, expected], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(pull)(THREE, TWO), -2 * np.sin(3.0), rtol=1e-6)
    np.testing.assert_allclose(eqx_filter.filter_grad(pull)(THREE, TWO), -2 * np.sin(3.0), rtol=1e-6)


def test_the_pullback_can_leave_a_jitted_function():
    _, vjp_fn = eqx_filter.filter_jit(lambda x: filter_vjp(lambda x, s: x**2, x, "s"))(THREE)
    assert vjp_fn(jnp.array(1.0)) == (6.0, None)


def test_the_pullback_is_linear_and_can_be_called_twice():
    _, vjp_fn = filter_vjp(lambda x: x**2, THREE)
    assert vjp_fn(jnp.array(1.0)) == (6.0,)
    assert vjp_fn(jnp.array(2.0)) == (12.0,)


def test_it_leaks_no_tracers():
    with jax.checking_leaks():
        out, vjp_fn, aux = filter_vjp(lambda x: ((x, jnp.argmax(x)), x * 2), jnp.ones(2), has_aux=True)
        vjp_fn((jnp.ones(2), None))
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jtu.tree_leaves((out, aux)))


def test_nothing_to_differentiate_is_fine():
    out, vjp_fn = filter_vjp(lambda x, s: (x, s), 1, "s")
    assert out == (1, "s")
    assert vjp_fn((None, None)) == (None, None)


def test_cotangents_must_fit_the_output():
    _, vjp_fn = filter_vjp(lambda x, n: (x, n), THREE, jnp.array(1))
    with pytest.raises(ValueError, match="tree structure"):
        vjp_fn(jnp.array(1.0))
    with pytest.raises(ValueError, match="tree structure"):
        vjp_fn((jnp.array(1.0), jnp.array(1)))
    with pytest.raises(ValueError, match=r"expected .*f(loat)?32"):
        vjp_fn((jnp.array(1), None))


def test_a_function_with_aux_must_return_a_pair():
    with pytest.raises(TypeError, match=r"`filter_vjp\(fun=...\)` must return a pair `\(value, aux\)`"):
        filter_vjp(lambda x: x, THREE, has_aux=True)


def test_it_agrees_with_equinox():
    equinox = pytest.importorskip("equinox")

    def fun(tree):
        return (tree["x"] ** 2, "s", tree["n"])

    tree = {"x": THREE, "n": jnp.array(1), "s": "s"}
    (out, vjp_fn), (expected, expected_fn) = filter_vjp(fun, tree), equinox.filter_vjp(fun, tree)
    assert out == expected
    ct = (jnp.array(1.0), None, None)
    assert vjp_fn(ct) == expected_fn(ct)
