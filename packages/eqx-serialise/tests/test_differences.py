"""One error lists all that differs between the file and `like`."""

import io

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_serialise

TREE = {
    "same": jnp.ones(2),
    "only_in_file": jnp.ones((2, 3)),
    "shape": jnp.ones((2, 3)),
    "rank": jnp.ones((1, 1)),
    "dtype": jnp.ones(4),
    "kind": 0.5,
}
LIKE = {
    "same": jnp.ones(2),
    "only_in_like": jnp.ones(5, jnp.bfloat16),
    "shape": jnp.ones((3, 2)),
    "rank": jnp.ones((1,)),
    "dtype": jnp.ones(4, jnp.int32),
    "kind": jnp.ones(()),
}


def report(saved, tree, like):
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        eqx_serialise.load(io.BytesIO(saved(tree)), like)
    return str(error.value)


def test_one_report_lists_every_difference(saved):
    assert (
        report(saved, TREE, LIKE)
        == """\
`load(like=...)` must have the leaves of the file <BytesIO>; got differences:
  missing, in `like` alone (1):
    ['only_in_like']: bf16[5]
  unexpected, in the file alone (1):
    ['only_in_file']: f32[2,3]
  of another kind (1):
    ['kind']: Python float in the file, f32[] in `like`
  of another shape (2):
    ['rank']: f32[1,1] in the file, f32[1] in `like`
    ['shape']: f32[2,3] in the file, f32[3,2] in `like`
  of another dtype (1):
    ['dtype']: f32[4] in the file, i32[4] in `like`
Build `like` just as the saved model was built. Or, to load it on purpose into this one, pass:
  `strict=False`, to keep what only `like` has and leave what only the file has
  `cast=True`, to convert to the dtypes of `like`
  `only=lambda path: path not in {...}`, to leave out leaves of another kind or shape"""
    )


@pytest.mark.parametrize(
    ("tree", "like", "line"),
    [
        ([jnp.ones(1)], [], "unexpected, in the file alone (1):\n    [0]: f32[1]"),
        ([], [jnp.ones(1)], "missing, in `like` alone (1):\n    [0]: f32[1]"),
        ([1], [True], "[0]: Python int in the file, Python bool in `like`"),
        ([jnp.ones(1)], [None], "unexpected, in the file alone (1):\n    [0]: f32[1]"),
        ([jnp.ones(1)], [len], "unexpected, in the file alone (1):\n    [0]: f32[1]"),
        ([jr.key(0)], [jnp.ones(2, jnp.uint32)], "[0]: key<fry>[] in the file, u32[2] in `like`"),
        ([np.ones(1, ">f8")], [np.ones(1, "c16")], "[0]: f64[1] in the file, c128[1] in `like`"),
        ([jnp.ones(1, bool)], [jnp.ones(1, jnp.int8)], "[0]: bool[1] in the file, i8[1] in"),
    ],
)
def test_a_difference_is_named(saved, tree, like, line):
    assert line in report(saved, tree, like)


def test_a_long_list_is_cut(saved):
    text = report(saved, [jnp.ones(1)] * 100, [])
    assert "(100):" in text
    assert "... and 80 more" in text
    assert len(text.splitlines()) == 25


class Layer(eqx_core.Module):
    weight: jax.Array
    size: object = eqx_core.field(static=True)
    activation: object = jax.nn.relu


@pytest.mark.parametrize(
    ("saved_size", "size", "line"),
    [
        (3, 4, "size: 3 in the file, 4 in `like`"),
        (1, True, "size: 1 in the file, True in `like`"),
        (1, 1.0, "size: 1 in the file, 1.0 in `like`"),
        ("a", None, "size: 'a' in the file, None in `like`"),
        ((1, (2,)), [1, (2,)], "size: (1, (2,)) in the file, [1, (2,)] in `like`"),
        ({"a": 1}, {"a": 2}, "size: {'a': 1} in the file, {'a': 2} in `like`"),
        (jax.nn.relu, jax.nn.gelu, "size: function relu in the file, function gelu in `like`"),
        (np.dtype("f4"), np.dtype("f8"), "size: dtype float32 in the file, dtype float64 in `like`"),
        (0.0, -0.0, "size: 0.0 in the file, -0.0 in `like`"),
    ],
)
def test_a_static_value_that_differs_is_named(saved, saved_size, size, line):
    text = report(saved, Layer(jnp.ones(2), saved_size), Layer(jnp.ones(2), size))
    assert f"of another static value (1):\n    {line}\n" in text
    assert text.endswith("pass:\n  `strict=False`, to keep the static values of `like`")


def test_another_activation_is_named(saved):
    text = report(saved, [Layer(jnp.ones(2), 1)], [Layer(jnp.ones(2), 1, jnp.tanh)])
    assert "[0].activation: function relu in the file, function tanh in `like`" in text
    assert "[0]: function relu in the file, class float32 in" in report(saved, [jax.nn.relu], [np.float32])


def test_static_values_that_json_cannot_say_are_not_compared(round_trip):
    for one, other in [(lambda: 1, lambda: 2), (object(), object()), (1, object()), (object(), 1)]:
        assert round_trip(Layer(jnp.ones(2), one), Layer(jnp.ones(2), other)).size is other


def test_what_a_renamed_class_holds_is_found_by_name(round_trip):
    class Renamed(eqx_core.Module):
        weight: jax.Array

    np.testing.assert_array_equal(round_trip(Layer(jnp.ones(2), 1), Renamed(jnp.zeros(2))).weight, [1, 1])


def test_names_that_would_move_a_cursor_are_printed_as_text(saved):
    class Key:
        def __str__(self):
            return ".\x1b[2J" + "x" * 500

    @jax.tree_util.register_pytree_with_keys_class
    class Node:
        def __init__(self, child):
            self.child = child

        def tree_flatten_with_keys(self):
            return [(Key(), self.child)], None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls(*children)

    text = report(saved, Node(jnp.ones(1)), [])
    assert "'\\x1b[2Jxxx" in text
    assert max(map(len, text.splitlines())) < 300


def test_nothing_is_cast_or_broadcast(saved):
    for like in [jnp.ones(3, jnp.float16), jnp.ones((1, 3)), jnp.ones(()), np.ones(3)]:
        report(saved, [jnp.ones(3)], [like])
