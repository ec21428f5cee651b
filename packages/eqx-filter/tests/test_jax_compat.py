import traceback

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

import eqx_filter

compat = eqx_filter._jax_compat


class Node:
    def __init__(self, *children):
        self.children = children


jtu.register_pytree_node(Node, lambda node: (node.children, None), lambda _, children: Node(*children))

TREE = {"a": [None, 1, Node(None, (2, None))], "b": (), "c": None}


@pytest.mark.parametrize("registry", [compat._NONE_LEAF, None], ids=["private", "public"])
def test_none_is_a_leaf_in_every_node(monkeypatch, registry):
    monkeypatch.setattr(compat, "_NONE_LEAF", registry)
    leaves, treedef = compat.flatten_with_none(TREE)
    assert leaves == [None, 1, None, 2, None, None]
    back = treedef.unflatten(leaves)
    assert jtu.tree_structure(back) == jtu.tree_structure(TREE)
    assert treedef.flatten_up_to(TREE) == leaves
    assert compat.flatten_with_none(TREE, lambda x: isinstance(x, tuple))[0] == [None, 1, None, (2, None), (), None]
    assert compat.flatten_with_none(None)[0] == [None]


def test_the_private_registry_is_there():
    assert compat._NONE_LEAF is not None


def test_frames_of_ours_are_left_out_of_tracebacks():
    def fails(x):
        return jnp.zeros(2) + jnp.zeros(3)

    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "remove_frames")
    try:
        with pytest.raises(TypeError, match="shapes") as caught:
            eqx_filter.filter_jit(fails)(jnp.ones(2))
    finally:
        jax.config.update("jax_traceback_filtering", before)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [frame.name for frame in frames[:3]] == [
        "test_frames_of_ours_are_left_out_of_tracebacks",
        "__call__",
        "fails",
    ]
