"""Taking a PyTree apart for a loop, and saying by path what has changed in it."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core
import eqx_filter._carry

Split, changes = eqx_filter._carry.Split, eqx_filter._carry.changes
explain, leaf_change = eqx_filter._carry.explain, eqx_filter._carry.leaf_change

LEAVES = st.sampled_from([1, 1.0, True, "a", None, len, np.ones(2, np.float32), np.float32(1), jnp.zeros(3)])
TREES = st.recursive(LEAVES, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.sampled_from("abc"), t, max_size=3))


class Model(eqx_core.Module):
    weight: object
    activation: object = jnp.tanh
    size: object = eqx_core.field(static=True, default=1)


@given(TREES)
def test_join_undoes_split(tree):
    split = Split(tree)
    assert jax.tree.structure(split.join(split.arrays)) == jax.tree.structure(tree)
    assert all(a is b for a, b in zip(jax.tree.leaves(split.join(split.arrays)), jax.tree.leaves(tree), strict=True))
    assert [eqx_core.is_array(x) for x in split.arrays] == [True] * len(split.arrays)


@given(TREES)
def test_nothing_changes_in_the_same_tree(tree):
    assert changes(tree, jax.tree.map(lambda x: x, tree), "t") == []


def test_arrays_may_have_other_values_and_numbers_stand_for_arrays():
    old = {"a": jnp.zeros(3), "b": jnp.float32(1), "k": jr.key(0)}
    assert changes(old, {"a": np.ones(3, np.float32), "b": 2.0, "k": jr.key(1)}, "t") == []


WEAK = jnp.asarray(1)


@pytest.mark.parametrize(
    ("old", "new", "kind", "message"),
    [
        (1, 2, "static value", "1 became 2"),
        (1, 1.0, "static value", "1 became 1.0 (float)"),
        (1, True, "static value", "1 became True (bool)"),
        (0.0, -0.0, "static value", "0.0 became -0.0"),
        ("a", "b", "static value", "'a' became 'b'"),
        (lambda x: x, lambda x: x, "static value", "<function <lambda>> became another <function <lambda>>"),
        (0, jnp.float32(1), "type", "0 became f32[]"),
        (jnp.float32(1), "a", "type", "f32[] became 'a'"),
        (jnp.ones(2), jnp.ones(3), "shape", "f32[2] became f32[3]"),
        (jnp.ones(2), jnp.ones(2, "int32"), "dtype", "f32[2] became i32[2]"),
        (jnp.ones(2), jnp.ones((), "int32"), "shape and dtype", "f32[2] became i32[]"),
        (jnp.asarray(1.0), jnp.int32(1), "dtype", "weak_f32[] became i32[]"),
        (jnp.float32(1), 1, "dtype", "f32[] became 1"),
        (jr.key(0), jnp.ones(()), "dtype", "key<fry>[] became f32[]"),
        ((1, 2), [1, 2], "structure", "tuple of 2 became list of 2"),
        (None, jnp.ones(()), "structure", "None became f32[]"),
    ],
)
def test_a_change_is_named_with_old_and_new(old, new, kind, message):
    old, new = {"x": [old]}, {"x": [new]}
    (change,) = changes(old, new, "t")
    assert (change.path, change.kind) == ("t['x'][0]", kind)
    assert change.message.replace("test_carry.", "").replace("(jax)", "") == message


def test_a_static_field_is_named():
    (change,) = changes(Model(jnp.ones(2)), Model(jnp.ones(2), size=2), "t")
    assert str(change) == "  t.size: static value 1 became 2"


@pytest.mark.parametrize("wide", ["int32", "int8", "float32", "bfloat16", "complex64"])
def test_a_weak_type_may_become_a_wider_one(wide):
    """As `jax.lax.scan` has it."""
    new = jnp.ones((), wide)
    assert leaf_change("t", WEAK, new, widening=True) is None
    last, _ = jax.lax.scan(lambda c, _: (new, None), WEAK, None, length=2)
    assert last.dtype == wide


def test_a_weak_float_becomes_no_int():
    assert leaf_change("t", jnp.asarray(1.0), jnp.int32(1), widening=True).kind == "dtype"
    with pytest.raises((TypeError, ValueError)):
        jax.lax.scan(lambda c, _: (jnp.int32(1), None), jnp.asarray(1.0), None, length=2)


def test_advice_for_numbers_is_to_make_them_arrays():
    text = explain(changes({"n": 0, "m": 1.0}, {"n": 1, "m": jnp.ones(())}, "t"))
    assert "make it `jnp.asarray(...)` at `t['m']`, `t['n']`" in text


@pytest.mark.parametrize(
    ("old", "new", "advice"),
    [
        ((1,), [1], "same structure"),
        ("a", "b", "Return what is no array as it was"),
        (jnp.ones(2), "b", "Return an array where there was one"),
        (jnp.ones(2), jnp.ones(3), "jnp.broadcast_to"),
        (jnp.ones(2), jnp.ones(2, "int32"), ".astype"),
        (jnp.ones(2), jnp.ones(3, "int32"), "shape and dtype from the start"),
    ],
)
def test_each_kind_has_its_advice(old, new, advice):
    assert advice in explain(changes(old, new, "t"))
