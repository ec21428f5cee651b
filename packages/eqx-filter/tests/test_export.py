"""What `filter_export` makes is what the function does, here and in another process."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.export import symbolic_shape

import eqx_core
import eqx_filter
from eqx_filter import filter_export, load_exported

pytest.importorskip("flatbuffers")

MODEL_FILE = """
import jax
import jax.numpy as jnp
import eqx_core


class Linear(eqx_core.Module):
    weight: jax.Array  # f32[2, 3]
    bias: jax.Array  # f32[2]
    activation: object
    name: str = eqx_core.field(static=True, default="linear")

    def __call__(self, x):
        return self.activation(self.weight @ x + self.bias)


def predict(model, x, *, scale=1.0):
    return {"y": scale * model(x), "name": model.name, "parts": [x, (None, 3)]}


def train(model, x, rate):
    grads = jax.grad(lambda w: (model.activation(w @ x + model.bias) ** 2).sum())(model.weight)
    return Linear(model.weight - rate * grads, model.bias, model.activation), (grads**2).sum()
"""
_module = {"__name__": "linear_model"}
exec(MODEL_FILE, _module)
Linear, predict, train = _module["Linear"], _module["predict"], _module["train"]


def _model(seed=0, activation=jnp.tanh):
    return Linear(jr.normal(jr.key(seed), (2, 3)), jr.normal(jr.key(seed + 1), (2,)), activation)


X = jnp.array([1.0, -2.0, 3.0])
STRUCT = jax.ShapeDtypeStruct((3,), "float32")


def _numbers(tree):
    return jax.tree.map(lambda x: x.tolist() if eqx_core.is_array(x) else x, tree)


@pytest.mark.parametrize("through_bytes", [False, True])
@pytest.mark.parametrize("example", [X, STRUCT], ids=["array", "struct"])
def test_it_computes_what_the_function_does_with_any_weights(through_bytes, example):
    exported = filter_export(predict)(_model(), example)
    if through_bytes:
        exported = load_exported(exported.serialise())
    for seed in range(3):
        expected = (
            jax.jit(lambda m, x: predict(m, x)["y"])(_model(seed).weight, X) if False else predict(_model(seed), X)
        )
        out = exported(_model(seed), X)
        np.testing.assert_allclose(out["y"], expected["y"], rtol=1e-6)
        assert (out["name"], _numbers(out["parts"])) == ("linear", [X.tolist(), (None, 3)])


def test_it_says_what_it_takes():
    exported = filter_export(predict)(_model(), STRUCT, scale=2.0)
    assert exported.names == ("model", "x", "scale")
    assert list(exported.inputs) == ["model.weight", "model.bias", "x"]
    assert exported.inputs["model.weight"].shape == (2, 3)
    assert exported.statics == {"model.activation": "tanh", "model.name": "'linear'", "scale": "2.0"}
    assert repr(exported) == f"ExportedFunction(model, x, scale; 3 arrays; {jax.default_backend()})"


def test_arguments_come_by_position_or_by_name():
    exported = filter_export(predict)(x=X, model=_model(), scale=jnp.float32(2))
    outs = [exported(_model(), X, 2.0), exported(_model(), x=X, scale=2.0), exported(scale=2.0, x=X, model=_model())]
    assert _numbers(outs[0]) == _numbers(outs[1]) == _numbers(outs[2])
    np.testing.assert_allclose(outs[0]["y"], 2 * _model()(X), rtol=1e-6)


def test_arrays_by_path_do_as_well():
    exported = load_exported(filter_export(train)(_model(), X, jnp.float32(0.1)).serialise())
    model = _model(3)
    arrays = {"model.weight": model.weight, "model.bias": np.asarray(model.bias), "x": X, "rate": 0.5}
    new, loss = exported.on_arrays(arrays)
    expected, expected_loss = train(model, X, 0.5)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    np.testing.assert_allclose(new["model.weight"], expected.weight, rtol=1e-5)
    assert new.keys() == {"model.weight", "model.bias"}


def test_a_result_like_an_argument_is_rebuilt_as_one():
    exported = load_exported(filter_export(train)(_model(), X, jnp.float32(0.1)).serialise())
    new, loss = exported(_model(3), X, 0.5)
    expected, expected_loss = train(_model(3), X, 0.5)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    np.testing.assert_allclose(new.weight, expected.weight, rtol=1e-5)
    assert (type(new), new.activation, new.name) == (Linear, jnp.tanh, "linear")


def test_a_callable_that_holds_arrays_is_the_first_argument():
    exported = load_exported(filter_export(_model())(STRUCT).serialise())
    assert exported.names == ("fun", "x")
    np.testing.assert_allclose(exported(_model(5), X), _model(5)(X), rtol=1e-6)
    partial = filter_export(eqx_core.Partial(Linear.__call__, _model()))(STRUCT)
    assert list(partial.inputs) == ["fun.args[0].weight", "fun.args[0].bias", "args[0]"]
    np.testing.assert_allclose(partial(eqx_core.Partial(Linear.__call__, _model(5)), X), _model(5)(X), rtol=1e-6)


def test_the_callable_gives_way_to_an_argument_of_its_name():
    class Apply(eqx_core.Module):
        weight: jax.Array

        def __call__(self, fun):
            return self.weight * fun

    exported = filter_export(Apply(jnp.float32(2)))(X)
    assert exported.names == ("fun_", "fun")
    assert exported(Apply(jnp.float32(3)), fun=X).tolist() == (3 * X).tolist()


def test_it_is_jitted_and_differentiated():
    fun = filter_export(lambda model, x: model(x).sum())(_model(), X)
    by_hand = eqx_filter.filter_grad(lambda model, x: model(x).sum())(_model(2), X)
    for exported in (fun, load_exported(fun.serialise(vjp_order=1))):
        for transform in (lambda f: f, eqx_filter.filter_jit):
            grads = transform(eqx_filter.filter_grad(lambda model, x, f=exported: f(model, x)))(_model(2), X)
            np.testing.assert_allclose(grads.weight, by_hand.weight, rtol=1e-5)
    with pytest.raises(ValueError, match="VJP"):
        jax.grad(lambda x: load_exported(fun.serialise())(_model(), x))(X)


def test_a_dimension_may_be_symbolic():
    (batch,) = symbolic_shape("batch")
    struct = jax.ShapeDtypeStruct((batch, 3), "float32")
    exported = filter_export(lambda model, xs: jax.vmap(model)(xs))(_model(), struct)
    exported = load_exported(exported.serialise())
    for n in (1, 4):
        np.testing.assert_allclose(exported(_model(), jnp.stack([X] * n))[0], _model()(X), rtol=1e-5)
    with pytest.raises(ValueError, match=r"got f32\[1,2\] instead of f32\[batch,3\] at `xs`"):
        exported(_model(), jnp.ones((1, 2)))


def test_it_is_compiled_for_any_platform():
    exported = load_exported(filter_export(predict, platforms=("cpu", "cuda", "tpu"))(_model(), STRUCT).serialise())
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported(_model(), X)["name"] == "linear"


def test_keys_are_arrays():
    exported = load_exported(filter_export(lambda key, n: jr.normal(key, (n,)))(jr.key(0), 3).serialise())
    assert exported(jr.key(7), 3).tolist() == jr.normal(jr.key(7), (3,)).tolist()


def test_weights_are_not_stored():
    big = eqx_core.tree_at(lambda m: m.weight, _model(), jnp.ones((2, 100_000)))
    exported = filter_export(predict)(big, jax.ShapeDtypeStruct((100_000,), "float32"))
    assert len(exported.serialise()) < 20_000


def test_another_process_calls_it_with_new_weights(tmp_path):
    (tmp_path / "linear_model.py").write_text(MODEL_FILE)
    (tmp_path / "predict.bin").write_bytes(filter_export(predict)(_model(), STRUCT).serialise())
    (tmp_path / "train.bin").write_bytes(filter_export(train)(_model(), STRUCT, jnp.float32(0.1)).serialise())
    np.savez(tmp_path / "weights.npz", weight=_model(9).weight, bias=_model(9).bias)
    script = """
        import pathlib, sys
        import jax.numpy as jnp, numpy as np
        import eqx_filter

        load = lambda name: eqx_filter.load_exported(pathlib.Path(name).read_bytes())
        weights = dict(np.load("weights.npz"))
        x = np.array([1.0, -2.0, 3.0], np.float32)
        predict = load("predict.bin")
        by_path = predict.on_arrays({"model.weight": weights["weight"], "model.bias": weights["bias"], "x": x})
        assert "linear_model" not in sys.modules

        from linear_model import Linear
        model = Linear(**weights, activation=jnp.tanh)
        assert (predict(model, x)["y"] == by_path["y"]).all()
        new, _ = load("train.bin")(model, x, 0.5)
        assert type(new) is Linear
        np.savez("out.npz", y=by_path["y"], weight=new.weight)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(out["y"], predict(_model(9), X)["y"], rtol=1e-6)
    np.testing.assert_allclose(out["weight"], train(_model(9), X, 0.5)[0].weight, rtol=1e-5)


def test_arguments_are_those_of_the_function():
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        filter_export(predict)(_model())


@pytest.mark.parametrize(
    ("fun", "text"),
    [
        (lambda model: {"a": [model.activation]}, r"got <PjitFunction of .*tanh.* at `out\['a'\]\[0\]`"),
        (
            lambda model: (model.weight, Linear(model.weight, model.bias, len)),
            r"got Linear\(.* at `out\[1\]`",
        ),
        (lambda model: {1: model.weight}, r"got \{1: f32\[2,3\]\} at `out`"),
    ],
)
def test_a_result_that_cannot_be_stored_is_refused_by_path(fun, text):
    with pytest.raises(TypeError, match=rf"(?s)`filter_export\(fun=...\)` must return arrays, None, .*{text}"):
        filter_export(fun)(_model())
