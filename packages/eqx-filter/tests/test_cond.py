"""`filter_cond` against `jax.lax.cond` on arrays, and by hand on models."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_cond


class Layer(eqx_core.Module):
    weight: jax.Array  # f32[3]
    activation: object
    name: str = eqx_core.field(static=True, default="layer")

    def __call__(self, x):
        return self.activation(self.weight * x)

    def call(self, x):
        return self(x)

    def scaled(self, by):
        return eqx_core.tree_at(lambda m: m.weight, self, self.weight * by)


X = jnp.array([1.0, -2.0, 3.0])
YES, NO = Layer(jnp.full(3, 0.5, "float32"), jnp.sin), Layer(jnp.full(3, 2.0, "float32"), jnp.tanh)
EACH_WAY = pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])


@EACH_WAY
@pytest.mark.parametrize("pred", [True, False, np.bool_(True), 0, 2, 0.0, -0.5])
def test_on_arrays_it_is_that_of_jax(pred, transform):
    branches = lambda x, y: {"a": x + y, "b": (x,)}, lambda x, y: {"a": x * y, "b": (y,)}
    ours, theirs = (
        transform(lambda p, x, f=f: f(p, *branches, x, 2 * x))(pred, X) for f in (filter_cond, jax.lax.cond)
    )
    assert jax.tree.map(np.ndarray.tolist, jax.tree.map(np.asarray, ours)) == jax.tree.map(
        np.ndarray.tolist, jax.tree.map(np.asarray, theirs)
    )


@EACH_WAY
@pytest.mark.parametrize(
    "make",
    [lambda m: m, lambda m: m.call, lambda m: eqx_core.Partial(Layer.call, m)],
    ids=["Module", "method", "Partial"],
)
def test_the_branches_may_be_any_callables(make, transform):
    def run(pred, a, b, x):
        return filter_cond(pred, make(Layer(a, jnp.sin)), make(Layer(b, jnp.tanh)), x)

    np.testing.assert_allclose(transform(run)(True, YES.weight, NO.weight, X), jnp.sin(YES.weight * X), rtol=1e-6)
    np.testing.assert_allclose(transform(run)(False, YES.weight, NO.weight, X), jnp.tanh(NO.weight * X), rtol=1e-5)
    grads = transform(jax.grad(lambda *a: run(*a).sum(), argnums=(1, 2)))(True, YES.weight, NO.weight, X)
    np.testing.assert_allclose(grads[0], X * jnp.cos(YES.weight * X), rtol=1e-5)
    np.testing.assert_allclose(grads[1], np.zeros(3))


@pytest.mark.parametrize("transform", [lambda f: f, eqx_filter.filter_jit], ids=["eager", "jit"])
def test_modules_may_be_operands_and_results(transform):
    run = transform(lambda p, m: filter_cond(p, lambda m: m.scaled(2.0), lambda m: m, m))
    for pred, weight in [(True, 1.0), (False, 0.5)]:
        out = run(pred, YES)
        assert (out.weight.tolist(), out.activation, out.name) == ([weight] * 3, jnp.sin, "layer")


def test_what_is_no_array_is_returned_if_it_is_the_same():
    out = filter_cond(True, lambda x: ("text", 1, len, None, x), lambda x: ("text", 1, len, None, 2 * x), X)
    assert out[:4] == ("text", 1, len, None)
    assert out[4].tolist() == X.tolist()
    assert filter_cond(True, lambda: ("a", 1.0), lambda: ("a", 1.0)) == ("a", 1.0)


@pytest.mark.parametrize("pred", [True, False])
def test_a_number_stands_for_an_array_if_the_other_has_one(pred):
    for branches in [(lambda x: 0.0, lambda x: x), (lambda x: x, lambda x: 0.0)]:
        ours, theirs = (f(pred, *branches, jnp.float32(3)) for f in (filter_cond, jax.lax.cond))
        assert (float(ours), ours.dtype) == (float(theirs), theirs.dtype)


def test_it_is_mapped_by_vmap():
    preds = jnp.array([True, False, True])
    out = jax.vmap(lambda p, x: filter_cond(p, YES, NO, x))(preds, jnp.stack([X] * 3))
    np.testing.assert_allclose(out, [(YES if p else NO)(X) for p in preds], rtol=1e-6)
    weights = jnp.stack([YES.weight, NO.weight])
    out = jax.vmap(lambda w: filter_cond(True, Layer(w, jnp.sin), NO, X))(weights)
    np.testing.assert_allclose(out, jnp.sin(weights * X[None]), rtol=1e-6)


def test_keys_and_structs_pass():
    key = filter_cond(True, lambda k: jr.split(k)[0], lambda k: k, jr.key(0))
    assert jr.key_data(key).tolist() == jr.key_data(jr.split(jr.key(0))[0]).tolist()
    struct = jax.ShapeDtypeStruct((), "bool"), jax.ShapeDtypeStruct((3,), "float32")
    assert jax.eval_shape(lambda p, x: filter_cond(p, YES, NO, x), *struct).shape == (3,)


def test_disabling_jit_changes_nothing():
    with jax.disable_jit():
        out = filter_cond(False, lambda x: ("a", 1, x), lambda x: ("a", 1, 2 * x), X)
    assert (out[:2], out[2].tolist()) == (("a", 1), (2 * X).tolist())


def test_branches_are_traced_once_for_all_models_of_their_kind():
    traces = []

    class Counting(eqx_core.Module):
        weight: jax.Array

        def __call__(self, x):
            traces.append(1)
            return self.weight * x

    outs = [filter_cond(i > 1, Counting(jnp.float32(i)), Counting(jnp.float32(-i)), 2.0) for i in range(4)]
    assert [float(out) for out in outs] == [0.0, -2.0, 4.0, 6.0]
    assert len(traces) == 2


@EACH_WAY
@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (lambda x: {"n": "a"}, lambda x: {"n": "b"}, r"out\['n'\]: static value 'a' became 'b'"),
        (
            lambda x: {"n": 1},
            lambda x: {"n": 2},
            r"out\['n'\]: static value 1 became 2\nA Python number is static: make ",
        ),
        (lambda x: {"n": 1}, lambda x: {"n": True}, r"out\['n'\]: static value 1 became True \(bool\)"),
        (lambda x: {"n": x}, lambda x: {"n": "b"}, r"out\['n'\]: type f32\[3\] became 'b'"),
        (lambda x: {"n": x}, lambda x: {"n": x[:1]}, r"out\['n'\]: shape f32\[3\] became f32\[1\]"),
        (lambda x: {"n": x}, lambda x: {"n": x > 0}, r"out\['n'\]: dtype f32\[3\] became bool\[3\]"),
        (lambda x: {"n": x}, lambda x: {"n": 0.0}, r"out\['n'\]: shape f32\[3\] became 0\.0"),
        (lambda x: {"n": x}, lambda x: {"m": x}, r"out\['n'\]: structure f32\[3\] is in the first tree only"),
        (lambda x: YES, lambda x: Layer(YES.weight, jnp.sin, "b"), r"out\.name: static value 'layer' became 'b'"),
        (lambda x: YES, lambda x: NO, r"out\.activation: static value .*sin.* became .*tanh.*"),
    ],
)
def test_a_difference_between_branches_is_named_by_path(a, b, text, transform):
    with pytest.raises(TypeError, match=rf"from `true_fun` to `false_fun`:\n  {text}"):
        transform(lambda x: filter_cond(True, a, b, x) and None)(X)


@pytest.mark.parametrize("pred", ["yes", None, X, X > 0, 1j, jr.key(0)])
def test_the_condition_must_be_a_scalar(pred):
    with pytest.raises(
        TypeError, match=r"`filter_cond\(pred=...\)` must be a scalar array of bools or numbers.*jnp.any"
    ):
        filter_cond(pred, lambda: 1, lambda: 1)
