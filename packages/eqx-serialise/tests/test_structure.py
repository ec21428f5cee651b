"""A file knows the classes of the tree, their schemas, and the static values that JSON can say."""

import enum
import io
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
import eqx_serialise


class Mode(enum.Enum):
    FAST = 1


class Linear(eqx_core.Module):
    __schema__ = 3

    weight: jax.Array
    size: int = eqx_core.field(static=True)
    mode: Mode = eqx_core.field(static=True, default=Mode.FAST)
    secret: object = eqx_core.field(static=True, default_factory=object)


@jtu.register_dataclass
@dataclass
class Plain:
    x: jax.Array
    name: str = field(metadata={"static": True}, default="plain")


def contents(tree):
    file = io.BytesIO()
    eqx_serialise.save(file, tree)
    file.seek(0)
    return eqx_serialise.inspect(file)


TREE = {"layers": [Linear(jnp.ones(2), 2), None], "plain": Plain(jnp.ones(1)), "f": jnp.tanh, "empty": ()}


def test_each_node_has_its_class_and_its_schema():
    found = {name: (node.cls, node.schema) for name, node in contents(TREE).classes.items()}
    assert found == {
        ".": ("dict", 1),
        "['empty']": ("tuple", 1),
        "['layers']": ("list", 1),
        "['layers'][0]": ("Linear", 3),
        "['layers'][1]": ("None", 1),
        "['plain']": ("Plain", 1),
    }


def test_static_values_and_functions_are_said_by_name():
    assert contents(TREE).static == {
        "['f']": {"function": "tanh"},
        "['layers'][0].size": {"int": 2},
        "['layers'][0].mode": {"enum": "Mode.FAST"},
        "['plain'].name": {"str": "plain"},
    }


def test_a_deep_tree_is_no_deeper_for_us_than_for_jax():
    tree = jnp.ones(1)
    for _ in range(300):
        tree = [tree]
    assert len(contents(tree).classes) == 300


@pytest.mark.parametrize("tree", [jnp.ones(1), 1.5, np.zeros(()), jax.nn.relu])
def test_a_tree_that_is_a_leaf_has_no_nodes(tree):
    assert contents(tree).classes == {}


def test_a_class_within_a_function_is_called_by_its_own_name():
    class Local(eqx_core.Module):
        x: jax.Array

    assert contents(Local(jnp.ones(1))).classes["."].cls == "Local"


@pytest.mark.parametrize("schema", [0, -1, True, 1.0, "2", None])
def test_a_schema_that_is_no_number_from_one_is_refused(schema):
    class Model(eqx_core.Module):
        __schema__ = schema
        x: jax.Array

    for call in (eqx_serialise.save, eqx_serialise.load):
        file = io.BytesIO()
        eqx_serialise.save(file, Linear(jnp.ones(1), 1))
        file.seek(0)
        with pytest.raises(TypeError, match=r"`Model.__schema__` must be an integer of at least 1; got `.*`. Count"):
            call(file, Model(jnp.ones(1)))


def test_whether_a_dtype_was_weak_is_written(saved):
    assert b'\\"weak\\":[\\"[0]\\"]' in saved([jnp.asarray(1.0)])
    assert b'\\"weak\\":[]' in saved([jnp.ones(1), np.ones(1)])
