import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

import eqx_core
from eqx_filter.internal import hashable_combine, hashable_partition


def test_combine_undoes_partition():
    for tree in ({"a": jnp.ones(2), "b": (1, None, "c")}, [], None, 3, np.ones(1)):
        dynamic, static = hashable_partition(tree, eqx_core.is_array)
        back = hashable_combine(dynamic, static)
        assert jtu.tree_structure(back) == jtu.tree_structure(tree)
        assert all(a is b for a, b in zip(jtu.tree_leaves(back), jtu.tree_leaves(tree), strict=True))


def test_the_halves_have_none_in_the_places_of_the_other():
    array = jnp.ones(2)
    dynamic, (static, treedef) = hashable_partition([array, "a"], eqx_core.is_array)
    assert dynamic == (array, None)
    assert static == (None, "a")
    assert treedef == jtu.tree_structure([0, 0])


def test_the_static_half_is_a_key():
    one, two = (hashable_partition({"a": jnp.ones(2), "b": n}, eqx_core.is_array)[1] for n in (1, 2))
    again = hashable_partition({"a": jnp.zeros(2), "b": 1}, eqx_core.is_array)[1]
    assert {one: "found"}[again] == "found"
    assert one != two
