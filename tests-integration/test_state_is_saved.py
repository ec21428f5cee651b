"""A state goes to a file and comes back, with the model that it belongs to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx


def make():
    return eqx.nn.make_with_state(lambda: eqx.nn.Sequential([eqx.nn.BatchNorm(3, "batch"), eqx.nn.Dropout(0.5)]))()


def train(model, state):
    xs = jnp.arange(12.0).reshape(4, 3)
    call = jax.vmap(model[0], axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    return call(xs, state)[1]


@pytest.fixture
def trained():
    model, state = make()
    return model, train(model, state)


@pytest.mark.parametrize("like", [make, lambda: eqx.filter_eval_shape(make)], ids=["arrays", "shapes"])
@pytest.mark.parametrize("way", ["load", "tree_deserialise_leaves"])
def test_a_state_comes_back_from_a_file(trained, tmp_path, like, way):
    model, state = trained
    file = tmp_path / "checkpoint"
    if way == "load":
        eqx.serialise.save(file, (model, state))
        loaded_model, loaded = eqx.serialise.load(file, like=like())
    else:
        eqx.tree_serialise_leaves(file, (model, state))
        loaded_model, loaded = eqx.tree_deserialise_leaves(file, like())
    assert loaded_model[1].p == 0.5
    index = loaded_model[0].batch_state_index
    for a, b in zip(loaded.get(index), state.get(model[0].batch_state_index), strict=True):
        np.testing.assert_array_equal(a, b)
    assert train(loaded_model, loaded).get(loaded_model[0].batch_counter) == 2
