"""str2jax gives an object that is its message and nothing else."""

import jax
import pytest
from hypothesis import given, strategies as st

import eqx_core
from eqx_core.internal import str2jax


@given(st.text())
def test_str_and_repr_are_the_message(msg):
    value = str2jax(msg)
    assert str(value) == repr(value) == msg
    assert jax.tree.leaves(value) == []


def test_it_prints_as_the_message_inside_of_a_tree():
    assert eqx_core.tree_pformat([str2jax("no value")]) == "[no value]"


def test_it_passes_through_transforms():
    value = str2jax("no value")
    assert jax.jit(lambda x: x)(value) == value
    assert jax.vmap(lambda x, y: (x, y), axis_size=2)(value, None)[0] == value
    assert repr(jax.eval_shape(lambda: value)) == "no value"


def test_each_call_is_a_class_of_its_own():
    first, second = str2jax("same"), str2jax("same")
    assert first == first
    assert hash(first) == hash(first)
    assert first != second
    assert jax.tree.structure(first) != jax.tree.structure(second)
    assert "same" in str(jax.tree.structure(first))


def test_jit_compiles_once_for_one_object_and_again_for_another():
    traces = []
    f = jax.jit(lambda x: traces.append(x))
    first, second = str2jax("a"), str2jax("a")
    f(first), f(first), f(second)
    assert len(traces) == 2


def test_what_is_no_string_is_refused():
    with pytest.raises(TypeError, match=r"`str2jax\(msg=...\)` must be a string; got `int`. Write"):
        str2jax(1)
