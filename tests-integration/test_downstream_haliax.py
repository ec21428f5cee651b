"""haliax on `eqx.equinox_alias`: named axes, its layers, its `field` and its transforms."""

import importlib.util
import sys
import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
if importlib.util.find_spec("haliax") is None:
    pytest.skip("haliax is not installed", allow_module_level=True)
with warnings.catch_warnings(action="default"):
    import haliax as hax

Batch, In, Out = hax.Axis("batch", 4), hax.Axis("in", 3), hax.Axis("out", 2)
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_layers_are_modules_and_learn():
    layer = hax.nn.Linear.init(In, Out, key=jr.PRNGKey(0))
    assert isinstance(layer, eqx.Module)
    x = hax.random.normal(jr.PRNGKey(1), (Batch, In))

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(layer):
        return hax.mean(layer(x) ** 2).scalar()

    before, grad = loss(layer)
    assert isinstance(grad, hax.nn.Linear)
    after, _ = loss(eqx.apply_updates(layer, jax.tree.map(lambda g: -0.3 * g, grad)))
    assert after < before
    expected = np.array(x.array) @ np.array(layer.weight.rearrange((In, Out)).array) + np.array(layer.bias.array)
    np.testing.assert_allclose(layer(x).rearrange((Batch, Out)).array, expected, rtol=1e-3, atol=1e-3)


def test_named_transforms():
    mapped = hax.vmap(lambda x: hax.sum(x, In), Batch)(hax.ones((Batch, In)))
    np.testing.assert_allclose(mapped.array, 3.0)
    last, _ = hax.scan(lambda c, x: (c + x, None), Batch)(hax.zeros(In), hax.ones((Batch, In)))
    np.testing.assert_allclose(last.array, 4.0)


def test_blocks_of_layers_are_stacked():
    Layers = hax.Axis("layers", 3)

    class Block(eqx.Module):
        linear: hax.nn.Linear

        @staticmethod
        def init(key):
            return Block(hax.nn.Linear.init(In, In.alias("in2"), key=key))

        def __call__(self, x):
            return self.linear(x).rename({"in2": "in"})

    stacked = hax.nn.Stacked.init(Layers, Block)(jr.split(jr.PRNGKey(0), 3))
    x = hax.ones(In)
    assert stacked.fold(x).axes == (In,)
    by_hand = x
    for block in stacked.unstacked():
        by_hand = block(by_hand)
    np.testing.assert_allclose(stacked.fold(x).array, by_hand.array, rtol=1e-4)


def test_gradients_of_a_stack_are_those_without_checkpoints():
    Layers = hax.Axis("layers", 3)

    class Block(eqx.Module):
        weight: hax.NamedArray
        scale: float = hax.field(static=True)

        @staticmethod
        def init(key):
            return Block(hax.random.normal(key, In), 0.5)

        def __call__(self, x):
            return hax.tanh(x * self.weight * self.scale)

    def gradient(policy):
        stacked = hax.nn.Stacked.init(Layers, Block, gradient_checkpointing=policy)(jr.split(jr.PRNGKey(0), 3))
        return eqx.filter_grad(lambda stacked: hax.sum(stacked.fold(hax.ones(In))).scalar())(stacked)

    plain, saving = gradient(False), gradient(True)
    assert plain.stacked.scale == 0.5
    np.testing.assert_allclose(plain.stacked.weight.array, saving.stacked.weight.array, rtol=1e-5)
    assert np.all(plain.stacked.weight.array != 0)


def test_named_jit_donates_and_layers_give_their_state_by_name():
    layer = hax.nn.Linear.init(In, Out, key=jr.PRNGKey(0))
    double = hax.named_jit(lambda layer: jax.tree.map(lambda x: 2 * x, layer), donate_args=(True,))
    doubled = double(jax.tree.map(jnp.copy, layer))
    np.testing.assert_allclose(doubled.weight.array, 2 * layer.weight.array)
    state = hax.state_dict.to_state_dict(layer)
    assert set(state) == {"weight", "bias"}
    loaded = hax.state_dict.from_state_dict(doubled, state)
    assert eqx.tree_equal(loaded, layer)


def test_abstract_construction():
    struct = eqx.filter_eval_shape(hax.nn.Linear.init, In, Out, key=jr.PRNGKey(0))
    assert struct.weight.axes == hax.nn.Linear.init(In, Out, key=jr.PRNGKey(0)).weight.axes
    assert isinstance(struct.weight.array, jax.ShapeDtypeStruct)
    assert jnp.dtype(struct.weight.dtype) == jnp.float32
