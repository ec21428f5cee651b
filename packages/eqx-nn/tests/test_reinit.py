import re
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
import eqx_nn

KEY = jr.key(1)
INIT = jax.nn.initializers
NORMAL = INIT.he_normal()


def _ones(key, shape, dtype):
    return jnp.ones(shape, dtype)


class Model(eqx_core.Module):
    """One layer of each kind, and an array of its own."""

    linear: Any
    convs: list[Any]
    table: dict[str, Any]
    cells: tuple[Any, ...]
    norm: Any
    scale: Any
    steps: Any
    dropout: Any

    def __init__(self):
        self.linear = eqx_nn.Linear(3, 5, key=jr.key(0))
        self.convs = [
            eqx_nn.Conv2d(2, 4, 3, groups=2, key=jr.key(0)),
            eqx_nn.ConvTranspose1d(2, 3, 2, key=jr.key(0)),
        ]
        self.table = {"words": eqx_nn.Embedding(7, 3, key=jr.key(0))}
        self.cells = (eqx_nn.GRUCell(2, 3, key=jr.key(0)), eqx_nn.LSTMCell(2, 3, key=jr.key(0)))
        self.norm = eqx_nn.LayerNorm(3)
        self.scale = jnp.ones((3, 2))
        self.steps = jnp.arange(2)
        self.dropout = eqx_nn.Dropout()


MODEL = Model()
WEIGHTS = {
    "linear.weight",
    "convs.0.weight",
    "convs.1.weight",
    "table.words.weight",
    "cells.0.weight_ih",
    "cells.0.weight_hh",
    "cells.1.weight_ih",
    "cells.1.weight_hh",
}


def _paths(tree):
    return {jtu.keystr(path, simple=True, separator="."): leaf for path, leaf in jtu.tree_flatten_with_path(tree)[0]}


def _changed(where, init=_ones, model=MODEL):
    """Return the paths of the leaves that are others afterwards, having seen that the rest are the same objects."""
    after = eqx_nn.reinit(model, where, init, key=KEY)
    assert jtu.tree_structure(after) == jtu.tree_structure(model)
    before = _paths(model)
    changed = {path for path, leaf in _paths(after).items() if leaf is not before[path]}
    for path in changed:
        assert (before[path].shape, before[path].dtype) == (_paths(after)[path].shape, _paths(after)[path].dtype)
    return changed


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("linear.weight", {"linear.weight"}),
        ("*.weight_hh", {"cells.0.weight_hh", "cells.1.weight_hh"}),
        ("convs.*.weight", {"convs.0.weight", "convs.1.weight"}),
        ("scale", {"scale"}),
        (eqx_nn.Linear, {"linear.weight"}),
        (eqx_nn.Conv, {"convs.0.weight"}),
        (eqx_nn.ConvTranspose1d, {"convs.1.weight"}),
        (eqx_nn.Embedding, {"table.words.weight"}),
        (eqx_nn.GRUCell, {"cells.0.weight_ih", "cells.0.weight_hh"}),
        (Model, WEIGHTS),
        (eqx_core.Module, WEIGHTS | {"norm.weight"}),
        (lambda m: m.linear, {"linear.weight"}),
        (lambda m: m, WEIGHTS),
        (lambda m: m.scale, {"scale"}),
        (lambda m: (m.cells[1].weight_hh, m.convs), {"cells.1.weight_hh", "convs.0.weight", "convs.1.weight"}),
    ],
)
def test_just_what_is_chosen_changes(where, expected):
    assert _changed(where) == expected


def test_a_pattern_reaches_biases_and_norms():
    every = {path for path, leaf in _paths(MODEL).items() if eqx_core.is_inexact_array(leaf)}
    assert _changed("*") == every
    assert _changed("*bias*") == {path for path in every if "bias" in path}
    after = eqx_nn.reinit(MODEL, "convs.*.bias", INIT.constant(2.0), key=KEY)
    assert (after.convs[0].bias == 2).all()


def test_what_is_drawn_depends_on_key_and_path_alone():
    one = eqx_nn.reinit(MODEL, "linear.weight", NORMAL, key=KEY)
    more = eqx_nn.reinit(MODEL, lambda m: (m.convs[1], m.linear), NORMAL, key=KEY)
    jitted = jax.jit(lambda key: eqx_nn.reinit(MODEL, lambda m: m.linear, NORMAL, key=key).linear.weight)(KEY)
    np.testing.assert_array_equal(one.linear.weight, more.linear.weight)
    np.testing.assert_allclose(one.linear.weight, jitted, rtol=1e-6)
    assert not np.allclose(
        one.linear.weight, eqx_nn.reinit(MODEL, "linear.weight", NORMAL, key=jr.key(2)).linear.weight
    )
    two = eqx_nn.reinit([MODEL.linear, MODEL.linear], "*.weight", NORMAL, key=KEY)
    assert not np.allclose(two[0].weight, two[1].weight)


def test_initialisers_see_what_those_of_the_layers_see():
    shapes = Counter()

    def init(key, shape, dtype):
        shapes[shape] += 1
        return jnp.zeros(shape, dtype)

    eqx_nn.reinit(MODEL, Model, init, key=KEY)
    # Groups and gates are drawn by a `vmap`, which calls the initialiser once.
    assert shapes == {(3, 5): 1, (3, 3, 1, 2): 1, (2, 2, 3): 1, (7, 3): 1, (2, 3): 2, (3, 3): 2}


def test_gates_groups_and_layouts_are_those_of_the_layers():
    after = eqx_nn.reinit(MODEL, "cells.*.weight_hh", INIT.orthogonal(), key=KEY)
    for cell in after.cells:
        for gate in np.asarray(cell.weight_hh).reshape(-1, 3, 3):
            np.testing.assert_allclose(gate @ gate.T, np.eye(3), atol=1e-5)

    def count(key, shape, dtype):
        return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)

    np.testing.assert_array_equal(
        eqx_nn.reinit(MODEL, "linear.weight", count, key=KEY).linear.weight, np.arange(15).reshape(3, 5).T
    )
    np.testing.assert_array_equal(eqx_nn.reinit(MODEL, "scale", count, key=KEY).scale, np.arange(6).reshape(3, 2))


def test_stacked_layers_are_drawn_one_by_one():
    many = jax.vmap(lambda key: eqx_nn.Linear(4, 4, key=key))(jr.split(KEY, 3))
    after = eqx_nn.reinit(many, eqx_nn.Linear, INIT.orthogonal(), key=KEY)
    for weight in np.asarray(after.weight):
        np.testing.assert_allclose(weight @ weight.T, np.eye(4), atol=1e-5)
    assert not np.allclose(after.weight[0], after.weight[1])
    mlp = eqx_nn.MLP(2, 2, 4, 3, scan=True, key=KEY)
    assert _changed(eqx_nn.MLP, model=mlp) == {"layers.0.weight", "layers.1.weight", "layers.2.weight"}
    biased = eqx_nn.reinit(mlp, "*.bias", INIT.ones, key=KEY)
    assert biased.layers[1].bias.shape == (2, 4)


def test_a_model_of_shapes_gets_the_arrays_that_are_chosen():
    shapes = jax.eval_shape(lambda key: eqx_nn.Linear(3, 5, key=key), KEY)
    after = eqx_nn.reinit(shapes, "weight", NORMAL, key=KEY)
    np.testing.assert_array_equal(
        after.weight, eqx_nn.reinit(eqx_nn.Linear(3, 5, key=KEY), "weight", NORMAL, key=KEY).weight
    )
    assert isinstance(after.bias, jax.ShapeDtypeStruct)


def test_an_array_alone_can_be_drawn():
    assert eqx_nn.reinit(jnp.ones(3), "", INIT.zeros, key=KEY).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("*.wieght", "'*.wieght'"),
        ("steps", "'steps'"),
        (eqx_nn.Conv3d, "`Conv3d`"),
        (lambda m: m.norm, "`<lambda>`"),
        (lambda m: m.linear.in_features if False else m.norm, "`<lambda>`"),
    ],
)
def test_choosing_nothing_is_refused(where, shown):
    message = (
        f"`reinit(where=...)` must choose at least one parameter; got {shown}, which chooses none. The paths are "
        '"linear.weight", "linear.bias"'
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.reinit(MODEL, where, NORMAL, key=KEY)


@pytest.mark.parametrize(
    ("where", "shown"), [(lambda m: m.steps, "`i32[2]` at `steps`"), (lambda m: m.dropout.p, "`0.5`")]
)
def test_choosing_what_is_no_parameter_is_refused(where, shown):
    message = f"`reinit(where=...)` must choose floating or complex arrays; got {shown}"
    with pytest.raises(ValueError, match=re.escape(message)):
        eqx_nn.reinit(MODEL, where, NORMAL, key=KEY)


def test_other_arguments_are_refused():
    with pytest.raises(TypeError, match=r"`reinit\(where=...\)` must be a pattern for paths, a class, or a function"):
        eqx_nn.reinit(MODEL, 3, NORMAL, key=KEY)
    with pytest.raises(TypeError, match=r"`reinit\(init=...\)` for `linear.weight` must be a function"):
        eqx_nn.reinit(MODEL, "linear.weight", 3, key=KEY)
    with pytest.raises(ValueError, match=r"`reinit\(init=...\)` for `linear.weight` must return an array of the shape"):
        eqx_nn.reinit(MODEL, "linear.weight", lambda key, shape, dtype: jnp.ones(2), key=KEY)
