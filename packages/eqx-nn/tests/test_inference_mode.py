from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import pytest

import eqx_core
import eqx_nn


class Wrapper(eqx_core.Module):
    """A layer with a flag, around another one."""

    inner: Any
    inference: bool = False


def _flags(tree):
    leaves = jtu.tree_flatten_with_path(tree)[0]
    return {jtu.keystr(path): leaf for path, leaf in leaves if jtu.keystr(path).endswith("inference")}


def test_every_flag_is_set_and_nothing_else_changes():
    model = [eqx_nn.Dropout(0.25), {"a": Wrapper(eqx_nn.Sequential([eqx_nn.Dropout(0.5), eqx_nn.Identity()]))}]
    switched = eqx_nn.inference_mode(model)
    assert set(_flags(switched).values()) == {True}
    assert len(_flags(switched)) == 3
    assert switched[0].p == 0.25
    assert eqx_nn.inference_mode(switched, False) == model


def test_flags_below_flags_are_reached_at_once_however_deep():
    model = eqx_nn.Dropout()
    for _ in range(12):
        model = Wrapper(model)
    assert list(_flags(eqx_nn.inference_mode(model)).values()) == [True] * 13
    calls = []

    class Counted(Wrapper):
        def __getattribute__(self, name):
            if name == "inference":
                calls.append(name)
            return super().__getattribute__(name)

    for depth in (10, 20):
        model = eqx_nn.Dropout()
        for _ in range(depth):
            model = Counted(model)
        calls.clear()
        eqx_nn.inference_mode(model)
        assert len(calls) < 40 * depth


def test_the_root_counts():
    assert eqx_nn.inference_mode(eqx_nn.Dropout()).inference is True


def test_anything_with_the_attribute_counts():
    @jtu.register_pytree_node_class
    class Foreign:
        def __init__(self, inference):
            self.inference = inference

        def tree_flatten(self):
            return (self.inference,), None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls(*children)

    assert eqx_nn.inference_mode([Foreign(False)])[0].inference is True


def test_a_tree_without_flags_is_returned_as_it_is():
    for tree in ([1, None], (), None, eqx_nn.Identity()):
        assert eqx_nn.inference_mode(tree) is tree


def test_halves_of_a_model_can_be_switched():
    model = eqx_nn.Sequential([eqx_nn.Dropout(0.5), eqx_nn.Linear(2, 2, key=jr.key(0))])
    arrays = jax.tree.map(lambda leaf: leaf if eqx_core.is_array(leaf) else None, model)
    others = jax.tree.map(lambda leaf: None if eqx_core.is_array(leaf) else leaf, model)
    assert eqx_nn.inference_mode(arrays).layers[0].inference is True
    assert eqx_nn.inference_mode(others).layers[0].inference is True
    assert eqx_nn.inference_mode(others).layers[0].p == 0.5


def test_arrays_stay_the_same_objects():
    model = eqx_nn.Sequential([eqx_nn.Dropout(0.5), eqx_nn.Linear(2, 2, key=jr.key(0))])
    assert eqx_nn.inference_mode(model)[1].weight is model[1].weight


def test_a_model_of_shapes_can_be_switched():
    model = eqx_nn.Sequential([eqx_nn.Dropout(0.5), jax.ShapeDtypeStruct((2,), jnp.float32)])
    assert eqx_nn.inference_mode(model)[0].inference is True


def test_a_static_flag_cannot_be_set():
    class Fixed(eqx_core.Module):
        inference: bool = eqx_core.field(static=True, default=False)

    with pytest.raises((TypeError, ValueError), match="tree_at"):
        eqx_nn.inference_mode([Fixed()])


def test_both_names_are_one_function():
    assert eqx_nn.tree_inference is eqx_nn.inference_mode
