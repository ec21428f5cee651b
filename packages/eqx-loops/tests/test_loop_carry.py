"""The user's carry: what may be in it, and what `body_fun` must return."""

import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_loops._buffers
import eqx_loops._loop_carry

Carry = eqx_loops._loop_carry.Carry
Buffer = eqx_loops._buffers.Buffer


def test_leaves_become_strongly_typed_arrays_of_the_same_dtype():
    given = {"int": 1, "float": 1.5, "flag": True, "numpy": np.zeros(2, np.int8), "none": None, "key": jr.key(0)}
    value = Carry(given, None).value
    assert value["none"] is None
    del given["none"], value["none"]
    assert all(isinstance(x, jax.Array) and not jax.typeof(x).weak_type for x in value.values())
    assert {name: x.dtype for name, x in value.items()} == {name: jnp.asarray(x).dtype for name, x in given.items()}


def test_a_leaf_that_is_no_array_is_an_error_with_its_place():
    with pytest.raises(TypeError, match=re.escape("`while_loop(init_val=...)` must hold only arrays")) as caught:
        Carry({"model": [jnp.ones(2), "relu"]}, None)
    assert "got `'relu'` at `init_val['model'][1]`. Let `cond_fun` and `body_fun` close over" in str(caught.value)


def test_buffers_are_wrapped_and_unwrapped():
    carry = Carry((1, [jnp.ones(3), jnp.ones(2)]), lambda carry: carry[1][0])
    assert carry.is_buffer == carry.is_own_buffer == (False, [True, False])
    given = carry.wrap(carry.value, jnp.array(True))
    assert [type(x) is Buffer for x in (given[0], *given[1])] == [False, True, False]
    assert not eqx_core.is_array(given[1][0])
    written = given[0], [given[1][0].at[1].set(5.0), given[1][1]]
    np.testing.assert_array_equal(carry.unwrap(given, written)[1][0], [1.0, 5.0, 1.0])
    np.testing.assert_array_equal(carry.finish(carry.unwrap(given, written))[1][0], [1.0, 5.0, 1.0])


def test_buffers_may_return_any_tree_of_nodes():
    same = jnp.ones(3)
    init = {"a": same, "b": {"c": same, "d": None}, "e": same}
    carry = Carry(init, lambda carry: [carry["b"], None])
    assert carry.is_buffer == {"a": False, "b": {"c": True, "d": None}, "e": False}


def test_buffers_may_look_for_arrays():
    init = {"a": jnp.ones(2), "b": 3}
    carry = Carry(init, lambda carry: [x for x in carry.values() if eqx_core.is_inexact_array(x)])
    assert carry.is_buffer == {"a": True, "b": False}


def test_buffers_of_an_outer_loop_are_wrapped_in_those_of_an_inner_one():
    outer = Buffer(jnp.zeros(2), jnp.array(False))
    carry = Carry((0, outer), lambda carry: carry[1])
    assert carry.is_buffer == (False, True)
    assert carry.is_own_buffer == (False, False)
    assert eqx_core.is_array(carry.value[1])
    assert not carry.wrap(carry.value, jnp.array(True))[1].pred
    assert carry.finish(carry.value)[1].pred is outer.pred


def test_a_buffer_of_an_outer_loop_may_be_carried_as_it_is():
    outer = Buffer(jnp.zeros(2), jnp.array(True))
    carry = Carry((0, outer), None)
    assert carry.is_buffer == (False, Buffer(False, False))
    given = carry.wrap(carry.value, jnp.array(True))
    assert carry.unwrap(given, given)[1].array is outer.array


def test_what_is_no_array_of_the_carry_is_no_buffer():
    with pytest.raises(
        ValueError, match=re.escape("`while_loop(buffers=...)` must return arrays of the carry")
    ) as caught:
        Carry((jnp.ones(2), 3), lambda carry: (carry[0], 7))
    assert "got `7`. Return `carry.buffer`" in str(caught.value)
    with pytest.raises(ValueError, match=re.escape("got `f32[4]`")):
        Carry((jnp.ones(2), 3), lambda carry: jnp.ones(4))


@pytest.mark.parametrize(
    ("returned", "lines"),
    [
        ((jnp.ones(2), 1), ["- (f32[2], f32[3])", "+ (f32[2], i32[])"]),
        ((jnp.ones(3), jnp.ones(3)), ["- (f32[2], f32[3])", "+ (f32[3], f32[3])"]),
        ((jnp.ones(2), None), ["- (f32[2], f32[3])", "+ (f32[2], None)"]),
        ((jnp.ones(2), "a"), ["- (f32[2], f32[3])", "+ (f32[2], 'a')"]),
        ([jnp.ones(2), jnp.ones(3)], ["- (f32[2], f32[3])", "+ [f32[2], f32[3]]"]),
    ],
)
def test_a_difference_is_shown_line_by_line(returned, lines):
    carry = Carry((jnp.ones(2), np.ones(3, np.float32)), None)
    with pytest.raises(ValueError, match="`body_fun` must have the same input and output structure") as caught:
        carry.unwrap(carry.value, returned)
    text = str(caught.value).split("\n")
    assert text[1:-1] == lines
    assert text[-1] == "Return a carry like that which `body_fun` gets."


def test_a_difference_that_does_not_show_is_that_of_the_structures():
    class Named(eqx_core.Module):
        x: jax.Array
        name: str = eqx_core.field(static=True, repr=False)

    carry = Carry(Named(jnp.ones(2), "before"), None)
    with pytest.raises(ValueError, match="`body_fun` must have the same") as caught:
        carry.unwrap(carry.value, Named(jnp.ones(2), "after"))
    assert "before" in str(caught.value)
    assert "after" in str(caught.value)


def test_an_array_in_the_place_of_a_buffer_is_an_error():
    carry = Carry((1, jnp.ones(3)), lambda carry: carry[1])
    with pytest.raises(ValueError, match=re.escape("+ (i32[], f32[3])")):
        carry.unwrap(carry.wrap(carry.value, jnp.array(True)), (1, jnp.ones(3)))


def test_weak_types_do_not_count():
    carry = Carry((jnp.ones(()), 0), None)
    first, second = carry.unwrap(carry.value, (2.0, np.int32(3)))
    assert (first.weak_type, second.dtype) == (False, jnp.int32)
