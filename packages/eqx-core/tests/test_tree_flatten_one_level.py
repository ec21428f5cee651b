import jax.tree_util as jtu
import pytest
from hypothesis import given, strategies as st

import eqx_core


class Pair(eqx_core.Module):
    a: object
    b: object


trees = st.recursive(
    st.integers() | st.none(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(max_size=2), children, max_size=3)
        | st.builds(Pair, children, children)
    ),
    max_leaves=10,
)


@given(trees)
def test_the_treedef_puts_the_children_back_together(tree):
    children, treedef = eqx_core.tree_flatten_one_level(tree)
    assert treedef.num_leaves == len(children)
    rebuilt = jtu.tree_unflatten(treedef, children)
    assert jtu.tree_structure(rebuilt) == jtu.tree_structure(tree)
    assert jtu.tree_leaves(rebuilt) == jtu.tree_leaves(tree)


def test_children_are_the_same_objects_whatever_they_are():
    children = [None, eqx_core.Module(), 1, (2, [3]), ()]
    got, treedef = eqx_core.tree_flatten_one_level(children)
    assert all(a is b for a, b in zip(got, children, strict=True))
    assert treedef == jtu.tree_structure([0] * 5)


def test_a_leaf_is_its_own_child_and_none_has_none():
    assert eqx_core.tree_flatten_one_level(1) == ([1], jtu.tree_structure(0))
    assert eqx_core.tree_flatten_one_level(None) == ([], jtu.tree_structure(None))
    assert eqx_core.tree_flatten_one_level(()) == ([], jtu.tree_structure(()))


def test_a_node_that_is_its_own_child_is_refused():
    cycle = [1]
    cycle.append(cycle)
    with pytest.raises(ValueError, match="its own child; got a `list` that contains itself"):
        eqx_core.tree_flatten_one_level(cycle)


def test_a_longer_cycle_is_not_looked_for():
    inner = [1]
    outer = [inner]
    inner.append(outer)
    children, _ = eqx_core.tree_flatten_one_level(outer)
    assert children[0] is inner
