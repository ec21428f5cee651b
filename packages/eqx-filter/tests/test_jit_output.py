import operator

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from hypothesis import given

import eqx_filter

Output, pack = eqx_filter._jit_output.Output, eqx_filter._jit_output.pack
inverse, picker = eqx_filter._jit_output.inverse, eqx_filter._jit_output.picker

LEAVES = st.sampled_from([jnp.ones(2), np.ones(1), 1, "a", None, len])
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner), max_leaves=8)


@given(TREES)
def test_what_is_packed_is_rebuilt(tree):
    (leaves, treedef), (back, back_treedef) = jtu.tree_flatten(tree), jtu.tree_flatten(pack(tree)())
    assert treedef == back_treedef
    assert all(a is b for a, b in zip(leaves, back, strict=True))


@given(TREES)
def test_the_leaves_of_what_is_packed_are_arrays(tree):
    assert all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jtu.tree_leaves(pack(tree)))


def test_an_output_passes_through_jit():
    out = jax.jit(lambda x: pack({"a": x, "b": "text"}))(1.0)
    assert type(out) is Output
    assert out() == {"a": 1.0, "b": "text"}


@given(st.lists(st.integers(0, 4)))
def test_a_picker_picks(indices):
    assert list(picker(indices)("abcde")) == [*map("abcde".__getitem__, indices)]


@given(st.permutations(range(5)))
def test_the_inverse_undoes_a_permutation(order):
    assert operator.itemgetter(*inverse(order))(order) == (0, 1, 2, 3, 4)


def test_a_checked_output_waits_only_for_what_is_there():
    assert pack({"a": 1}, checked=True)() == {"a": 1}
    out = jax.jit(lambda x: pack((jnp.ones(3), x, "text"), checked=True))(1.0)
    assert (type(out.func), out.func.smallest) == (eqx_filter._jit_output.OncePassed, 1)
    assert out()[1:] == (1.0, "text")
    assert jax.jit(lambda x: pack(x, checked=True)())(1.0) == 1.0
