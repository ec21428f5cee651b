"""`filter_linearize` against `jax.linearize` on arrays, and against `filter_jvp` on models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import eqx_core
import eqx_filter
from eqx_filter import filter_linearize


class Model(eqx_core.Module):
    weight: jax.Array  # f32[3]
    activation: object
    steps: object
    name: str = eqx_core.field(static=True, default="model")

    def __call__(self, x):
        return {"y": self.activation(self.weight * x), "f": self.activation, "n": self.steps, "i": jnp.arange(2)}


X = jnp.array([1.0, -2.0, 3.0])
MODEL = Model(jnp.array([0.5, 1.0, -1.0]), jnp.sin, 3)
TANGENT = Model(jnp.ones(3), None, None)


@settings(max_examples=10)
@given(st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3))
def test_on_arrays_it_is_that_of_jax(direction):
    def fun(x, y):
        return {"a": jnp.sin(x) * y, "b": y}

    direction = jnp.array(direction, "float32")
    for linearize in (filter_linearize, jax.linearize):
        out, push = linearize(fun, X, 2 * X)
        if linearize is filter_linearize:
            ours = out, push(direction, X), push(X, direction)
    theirs = out, push(direction, X), push(X, direction)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("transform", [lambda f: f, eqx_filter.filter_jit], ids=["eager", "jit"])
def test_on_models_it_agrees_with_jvp(transform):
    def run(model, x, tangent):
        out, push = filter_linearize(lambda model, x: model(x), model, x)
        return out, push(tangent, x)

    out, tangent = transform(run)(MODEL, X, TANGENT)
    expected, expected_tangent = eqx_filter.filter_jvp(lambda model, x: model(x), (MODEL, X), (TANGENT, X))
    np.testing.assert_allclose(out["y"], expected["y"], rtol=1e-6)
    np.testing.assert_allclose(tangent["y"], expected_tangent["y"], rtol=1e-6)
    assert (out["f"], out["n"], out["i"].tolist()) == (jnp.sin, 3, [0, 1])
    assert (tangent["f"], tangent["n"], tangent["i"]) == (None, None, None)


def test_none_and_float0_are_zeros():
    _, push = filter_linearize(lambda model, x, n: model(x)["y"] * n.astype(x.dtype), MODEL, X, jnp.int32(2))
    expected = 2 * X * jnp.cos(MODEL.weight * X) * MODEL.weight
    for nothing in (None, np.zeros((), jax.dtypes.float0)):
        np.testing.assert_allclose(push(Model(None, None, None), X, nothing), expected, rtol=1e-6)
    assert push(Model(None, None, None), None, None).tolist() == [0.0] * 3


def test_the_linear_function_passes_through_jit_and_vmap():
    make = eqx_filter.filter_jit(lambda model, x: filter_linearize(lambda model: model(x)["y"], model))
    _, push = make(MODEL, X)
    _, push_again = make(eqx_core.tree_at(lambda m: m.weight, MODEL, 2 * MODEL.weight), X)
    call = eqx_filter.filter_jit(lambda push, tangent: push(tangent))
    np.testing.assert_allclose(call(push, TANGENT), X * jnp.cos(MODEL.weight * X), rtol=1e-6)
    np.testing.assert_allclose(call(push_again, TANGENT), X * jnp.cos(2 * MODEL.weight * X), rtol=1e-6)
    jacobian = eqx_filter.filter_vmap(push)(Model(jnp.eye(3), None, None))
    np.testing.assert_allclose(jacobian, jnp.diag(X * jnp.cos(MODEL.weight * X)), rtol=1e-6)


def test_it_is_differentiated():
    def of_direction(t):
        return filter_linearize(lambda model: model(X)["y"], MODEL)[1](Model(t, None, None)).sum()

    np.testing.assert_allclose(jax.grad(of_direction)(jnp.ones(3)), X * jnp.cos(MODEL.weight * X), rtol=1e-6)


def test_aux_may_be_anything():
    out, push, aux = filter_linearize(lambda x: (x**2, ("text", x, len)), X, has_aux=True)
    assert (out.tolist(), push(X).tolist()) == ((X**2).tolist(), (2 * X**2).tolist())
    assert (aux[0], aux[1].tolist(), aux[2]) == ("text", X.tolist(), len)
    with pytest.raises(TypeError, match=r"`filter_linearize\(fun=...\)` must return a pair"):
        filter_linearize(lambda x: x, X, has_aux=True)


@pytest.mark.parametrize(
    ("tangents", "error", "text"),
    [
        ((X,), ValueError, r"must get tangents of the structure of the primals"),
        (({"a": X}, X), ValueError, r"must get tangents of the structure of the primals"),
        (
            (TANGENT, jnp.ones(2)),
            ValueError,
            r"`tangents\[1\]` must have the shape and dtype of .* f32\[3\]; got f32\[2\]",
        ),
        ((TANGENT, jnp.ones(3, "int32")), TypeError, r"`tangents\[1\]` must have the shape and dtype .*got i32\[3\]"),
        ((Model(X, None, 1.0), X), TypeError, r"`tangents\[0\]\.steps` must be None, as its primal is no .*; got 1\.0"),
    ],
)
def test_tangents_must_fit(tangents, error, text):
    _, push = filter_linearize(lambda model, x: model(x), MODEL, X)
    with pytest.raises(error, match=text):
        push(*tangents)
