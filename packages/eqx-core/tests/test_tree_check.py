import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core


class Holder(eqx_core.Module):
    a: object
    b: object = None


trees = st.recursive(
    st.integers() | st.none(),
    lambda children: st.lists(children, max_size=3) | st.builds(Holder, children, children),
    max_leaves=10,
)


@given(trees)
def test_a_tree_of_new_nodes_passes(tree):
    eqx_core.tree_check(jax.tree.map(lambda x: x, tree))


@given(trees)
def test_two_places_for_one_node_fail_just_if_it_has_leaves(tree):
    if jax.tree.leaves(tree) and not isinstance(tree, int):
        with pytest.raises(ValueError, match="one node at two places"):
            eqx_core.tree_check((tree, tree))
    else:
        eqx_core.tree_check((tree, tree))


def test_both_paths_are_named():
    shared = [1]
    with pytest.raises(ValueError, match=r"the same `list` at `\.a\[0\]` and at `\.b\['x'\]`"):
        eqx_core.tree_check(Holder([shared], {"x": shared}))


def test_a_node_inside_itself_fails():
    cycle = [1]
    cycle.append(cycle)
    with pytest.raises(ValueError, match=r"contains itself; got the `list` at the root again at `\[1\]`"):
        eqx_core.tree_check(cycle)
    outer = {"a": [1]}
    outer["a"].append((outer["a"],))
    with pytest.raises(ValueError, match=r"contains itself; got the `list` at `\['a'\]` again at `\['a'\]\[1\]\[0\]`"):
        eqx_core.tree_check(outer)


def test_leaves_and_childless_nodes_may_repeat():
    array, numpy, empty, module = jnp.zeros(2), np.zeros(2), (), eqx_core.Module()
    nested = [[], {}]
    eqx_core.tree_check([array, array, numpy, numpy, empty, empty, module, module, None, None, nested, nested])
    eqx_core.tree_check(1)
    eqx_core.tree_check(None)
    eqx_core.tree_check(())


def test_nodes_that_are_made_anew_at_each_flattening_are_not_confused():
    @jax.tree_util.register_pytree_node_class
    class Fresh:
        def tree_flatten(self):
            return [[1], [2]], None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls()

    eqx_core.tree_check([Fresh() for _ in range(50)])


def test_verdicts_are_those_of_equinox():
    equinox = pytest.importorskip("equinox")
    shared, cycle = [1], [1]
    cycle.append(cycle)
    trees = [
        [1, 1],
        [(), ()],
        [shared, shared],
        (shared, [shared]),
        cycle,
        [cycle],
        {"a": shared, "b": [1]},
        [[()], [()]],
    ]

    def fails(check, tree):
        try:
            check(tree)
        except ValueError:
            return True
        return False

    assert [fails(eqx_core.tree_check, t) for t in trees] == [fails(equinox.tree_check, t) for t in trees]
