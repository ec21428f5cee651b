import importlib.util
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter.internal import noinline, nontraceable, to_onnx, unvmap_max

needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="onnx is not installed")
X = np.array([[0.1, -0.2, 0.3], [1.5, 2.0, -3.0]], np.float32)


def run(model, *inputs):
    from onnx.reference import ReferenceEvaluator

    feed = {f"input_{i}": np.asarray(x) for i, x in enumerate(inputs)}
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, feed)


class Net(eqx_core.Module):
    weights: list
    activation: object = jax.nn.gelu

    def __call__(self, x):
        for weight, bias in self.weights[:-1]:
            x = self.activation(weight @ x + bias)
        weight, bias = self.weights[-1]
        x = weight @ x + bias
        mean = jnp.mean(x)
        x = (x - mean) * jax.lax.rsqrt(jnp.var(x) + 1e-5)
        return jax.nn.softmax(x)


def net():
    keys = jr.split(jr.key(0), 3)
    sizes = [(5, 3), (5, 5), (4, 5)]
    return Net([(jr.normal(key, size), jnp.ones(size[0])) for key, size in zip(keys, sizes, strict=True)])


def convolution(x):
    kernel = np.linspace(-1, 1, 2 * 3 * 3 * 3, dtype=np.float32).reshape(2, 3, 3, 3)
    return jax.lax.conv_general_dilated(x[None], kernel, (2, 1), ((1, 0), (2, 1)), rhs_dilation=(1, 2))[0]


FUNCTIONS = {
    "arithmetic": (lambda x: {"a": x + 2 * x - x / 3, "b": (x**3, -x, jnp.abs(x), x * x)}, (X,)),
    "elementary": (lambda x: [f(x) for f in (jnp.sin, jnp.cos, jnp.exp, jnp.tanh, jnp.sinh, jnp.cosh, jnp.tan)], (X,)),
    "positive": (lambda x: [f(jnp.abs(x)) for f in (jnp.sqrt, jnp.log1p, jax.lax.rsqrt, jnp.log)], (X,)),
    "special": (
        lambda x: [f(x) for f in (jax.nn.sigmoid, jax.lax.erf, jnp.sign, jnp.floor, jnp.ceil, jnp.expm1)],
        (X,),
    ),
    "activations": (
        lambda x: [f(x) for f in (jax.nn.relu, jax.nn.silu, jax.nn.softplus, jax.nn.elu, jax.nn.gelu)],
        (X,),
    ),
    "comparisons": (
        lambda x, y: [x < y, x <= y, x > y, x >= y, x == y, x != y, (x < y) & (x > 0) | ~(y < 0)],
        (X, X[::-1]),
    ),
    "where": (lambda x: jnp.where(x > 0, x, jnp.exp(x)), (X,)),
    "clip": (lambda x: [jnp.clip(x, -1, 1), jnp.maximum(x, 0), jnp.minimum(x, 0), x**2.0], (np.abs(X),)),
    "reductions": (
        lambda x: [f(x, 0) for f in (jnp.sum, jnp.max, jnp.min, jnp.prod, jnp.mean, jnp.argmax, jnp.argmin)],
        (X,),
    ),
    "whole": (lambda x: [jnp.sum(x), jnp.any(x > 1), jnp.all(x > 1)], (X,)),
    "shapes": (
        lambda x: [
            x.T,
            x.reshape(3, 2),
            x[None],
            jnp.squeeze(x[:1]),
            jax.lax.slice(x, (0, 0), (2, 3), (1, 2)),
            jnp.concatenate([x, x], 1),
        ],
        (X,),
    ),
    "broadcast": (lambda x, y: x + y[None, :] * jnp.ones((2, 3)), (X, X[0])),
    "casts": (lambda x: [x.astype(jnp.int32), x.astype(jnp.float16), (x > 0).astype(jnp.float32)], (X,)),
    "iota": (lambda x: x + jnp.arange(3, dtype=jnp.float32)[None], (X,)),
    "products": (lambda x: [x @ x.T, jnp.einsum("ij,ik->jk", x, x), x @ x[0], jnp.einsum("bi,bi->b", x, x)], (X,)),
    "convolution": (convolution, (np.linspace(0, 1, 3 * 8 * 9, dtype=np.float32).reshape(3, 8, 9),)),
    "model": (net(), (X[0],)),
    "mapped": (eqx_filter.filter_vmap(net()), (X,)),
    "jitted": (eqx_filter.filter_jit(lambda x: jax.jit(jnp.sin)(x)), (X,)),
    "checkpointed": (jax.checkpoint(lambda x: jnp.sin(x)), (X,)),
    "constant": (lambda x: (x, jnp.arange(3)), (X,)),
    "gradient": (jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 2)), (X,)),
    "ours": (lambda x: nontraceable(noinline(jnp.sin)(x)) + unvmap_max(x), (X,)),
}


@needs_onnx
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_model_computes_what_the_function_does(name):
    fn, args = FUNCTIONS[name]
    expected = jax.tree.leaves(fn(*map(jnp.asarray, args)))
    out = run(to_onnx(fn)(*args), *args)
    assert len(out) == len(expected)
    for ours, theirs in zip(out, expected, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, rtol=2e-3 if ours.dtype == np.float16 else 2e-5, atol=1e-6)


@needs_onnx
def test_structs_may_stand_for_arrays_and_other_arguments_are_fixed():
    model = to_onnx(lambda x, n, name: {name: x["x"] * n})(
        {"x": jax.ShapeDtypeStruct((3,), jnp.float32)}, 3.0, name="a"
    )
    assert run(model, np.ones(3, np.float32))[0].tolist() == [3.0, 3.0, 3.0]
    assert [value.name for value in model.graph.output] == ["output_0"]


@needs_onnx
@pytest.mark.parametrize(
    ("fn", "what"),
    [
        (jnp.sort, "`sort`"),
        (lambda x: jax.lax.scan(lambda c, y: (c, y), 0, x), "`scan`"),
        (lambda x: jax.lax.select_n(jnp.array(1), x, x, x), "`select_n` of 3 cases"),
        (lambda x: jax.lax.conv_transpose(x[None, :, :, None], jnp.ones((2, 2, 1, 1)), (2, 2), "SAME"), "transposed"),
    ],
)
def test_what_is_not_translated_is_named(fn, what):
    with pytest.raises(
        NotImplementedError, match=f"must be a function of operations that are translated; got .*{what}"
    ):
        to_onnx(fn)(X)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ImportError, match=r"must find the package `onnx`; got `.*`. Install it by `pip install onnx`\."
    ):
        to_onnx(jnp.sin)(X)
