"""Slots hold PyTrees of arrays of any kind, and are written where they lie."""

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_loops._slots

_slots = eqx_loops._slots
TREE = {"a": jnp.arange(3.0), "b": (jnp.array(True), None), "c": jr.key(0), "d": jnp.zeros((0, 2), jnp.int8)}


def same(one, other):
    raw = [
        jtu.tree_map(lambda x: jr.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)
        for tree in (one, other)
    ]
    jtu.tree_map(np.testing.assert_array_equal, *raw)
    assert jtu.tree_map(lambda x: x.dtype, one) == jtu.tree_map(lambda x: x.dtype, other)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_what_is_read_is_what_was_written_last(wrap):
    other = jtu.tree_map(lambda x: x, TREE) | {"a": jnp.ones(3), "c": jr.key(7)}
    slots = _slots.new_slots(TREE, 3)
    slots = wrap(_slots.write_slot)(slots, 1, other)
    same(wrap(_slots.read_slot)(slots, 1), other)
    same(wrap(_slots.read_slot)(slots, jnp.array(2)), TREE)
    for pred, expected in ((True, TREE), (False, other)):
        written = wrap(_slots.write_slot_if)(jnp.array(pred), slots, jnp.array(1), TREE)
        same(wrap(_slots.read_slot)(written, 1), expected)


def test_blank_slots_are_of_the_types_given():
    leaves = jtu.tree_leaves(TREE)
    blank = _slots.blank_slots([jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves], 4)
    assert [(x.shape, x.dtype) for x in blank] == [((4, *x.shape), x.dtype) for x in leaves]
    assert not jnp.any(blank[0])


def test_no_slots_hold_nothing():
    assert _slots.read_slot(_slots.write_slot(_slots.new_slots((), 2), 0, ()), 0) == ()
