"""Leaves are called by their path, and every path has a name of its own."""

import collections
import io
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
import safetensors

import eqx_serialise

Pair = collections.namedtuple("Pair", "first second")
Holder = collections.namedtuple("Holder", "x")


@jtu.register_dataclass
@dataclass
class Model:
    layers: list
    __metadata__: jax.Array | None = None


@jtu.register_pytree_with_keys_class
class Node:
    """A node whose children have the keys it is given."""

    def __init__(self, keys, children):
        self.keys, self.children = keys, children

    def tree_flatten_with_keys(self):
        return list(zip(self.keys, self.children, strict=True)), self.keys

    @classmethod
    def tree_unflatten(cls, keys, children):
        return cls(keys, children)


@jtu.register_pytree_node_class
class Nameless(Node):
    def tree_flatten(self):
        return self.children, self.keys


def names(content):
    return [name for name, _ in safetensors.deserialize(content)]


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        (Model([{"weight": 0.0}]), "layers[0]['weight']"),
        (Model([], 0.0), ".__metadata__"),
        ({"__metadata__": 0.0}, "['__metadata__']"),
        (0.0, "."),
        ([0.0], "[0]"),
        (Pair(None, (0.0,)), "second[0]"),
        ({3: 0.0}, "[3]"),
        ({"a.b": 0.0}, "['a.b']"),
        ({"']['": 0.0}, "[\"']['\"]"),
        ({"meet at 0x": 0.0}, "['meet at 0x']"),
        ({"": {"\n\0": 0.0}}, r"['']['\n\x00']"),
        ({"\ud800": 0.0}, r"['\ud800']"),
        ({"é": 0.0, "e\u0301": None}, "['é']"),
        (Nameless(None, [0.0]), "[<flat index 0>]"),
    ],
)
def test_a_leaf_is_called_by_its_path(tree, name, saved, round_trip):
    tree = jtu.tree_map(np.float32, tree)
    assert names(saved(tree)) == [name]
    assert jtu.tree_leaves(round_trip(tree)) == jtu.tree_leaves(tree)


def test_names_that_differ_only_by_normalisation_are_two():
    tree = {"é": jnp.zeros(1), "e\u0301": jnp.ones(1)}
    file = io.BytesIO()
    eqx_serialise.save(file, tree)
    file.seek(0)
    back = eqx_serialise.load(file, tree)
    assert back["é"] == 0
    assert back["e\u0301"] == 1


def test_two_leaves_of_one_name_are_refused():
    node = Node((jtu.SequenceKey(0), jtu.DictKey(0)), [jnp.ones(1), jnp.ones(1)])
    with pytest.raises(ValueError, match=r"`save\(tree\)` must have one name .* got `x\[0\]` twice"):
        eqx_serialise.save(io.BytesIO(), Holder(node))
    with pytest.raises(ValueError, match=r"`load\(like=...\)` must have one name per leaf"):
        eqx_serialise.load(io.BytesIO(), Holder(node))


class Nobody:
    """Prints its address."""

    def __lt__(self, other):
        return False


@pytest.mark.parametrize("key", [Nobody(), (1, Nobody()), len.__call__])
def test_a_key_that_the_next_process_does_not_find_is_refused(key):
    with pytest.raises(ValueError, match=r"names that the next process finds again; got .* at 0x"):
        eqx_serialise.save(io.BytesIO(), {key: jnp.ones(1)})


def test_a_name_that_is_no_text_is_refused():
    class Key:
        def __str__(self):
            return ".\ud800"

    with pytest.raises(ValueError, match=r"Each name in `save\(tree\)` must be text .* '\\ud800'"):
        eqx_serialise.save(io.BytesIO(), Node((Key(),), [jnp.ones(1)]))
