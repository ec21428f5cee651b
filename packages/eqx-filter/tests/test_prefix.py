"""Which part of a tree each leaf of a prefix tree stands for."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, strategies as st

import eqx_filter._prefix

parts = eqx_filter._prefix.parts

TREES = st.recursive(
    st.sampled_from([1, "a", None]),
    lambda t: st.lists(t, max_size=3) | st.tuples(t, t) | st.fixed_dictionaries({"k": t}),
)


@given(TREES)
def test_one_leaf_stands_for_the_whole(tree):
    leaves, subtrees, treedef = parts("option", "prefix", tree)
    assert (leaves, subtrees) == (["prefix"], [tree])
    assert treedef.unflatten(subtrees) == tree


@given(TREES)
def test_a_tree_is_a_prefix_of_itself(tree):
    leaves, subtrees, treedef = parts("option", tree, tree)
    assert leaves == subtrees == jax.tree.leaves(tree, is_leaf=lambda x: x is None)
    assert treedef.unflatten(subtrees) == tree


@pytest.mark.parametrize(("prefix", "tree"), [((1, 2), (1,)), ({"a": 1}, [1]), ([1, (2, 3)], [jnp.zeros(99), 1])])
def test_what_is_no_prefix_is_refused_without_printing_arrays(prefix, tree):
    with pytest.raises(ValueError, match=r"^`option` must have the structure of the values that it is for") as caught:
        parts("option", prefix, tree)
    assert "0., 0." not in str(caught.value)
