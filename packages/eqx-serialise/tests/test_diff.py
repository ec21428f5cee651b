"""Two files are compared by what they hold."""

import io

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_serialise


class Linear(eqx_core.Module):
    weight: jax.Array
    size: int = eqx_core.field(static=True, default=1)


def diff(saved, one, other, **metadata):
    return eqx_serialise.diff(io.BytesIO(saved(one)), io.BytesIO(saved(other, **metadata)))


TREE = {"w": jnp.arange(3.0), "k": jr.key(0), "f8": jnp.ones(2, jnp.float8_e4m3fn), "x": np.zeros(2), "rate": -0.0}


def test_two_files_of_one_tree_are_the_same(saved):
    found = diff(saved, TREE, TREE)
    assert found == ()
    assert not found
    assert repr(found) == "The same is in both."


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"w": jnp.array([0.0, 1.0, 4.0])}, "['w']  value  1 of 3 elements: at most 2 apart, relative 1, at [2]"),
        ({"k": jr.key(1)}, "['k']  value  1 of 1 elements"),
        (
            {"f8": jnp.array([1, 2], jnp.float8_e4m3fn)},
            "['f8']  value  1 of 2 elements: at most 1 apart, relative 1, at [1]",
        ),
        ({"x": -np.zeros(2)}, "['x']  value  equal numbers in other bits"),
        ({"rate": 0.0}, "['rate']  value  equal numbers in other bits"),
        ({"rate": 1.5}, "['rate']  value  -0.0 became 1.5"),
        ({"rate": 0}, "['rate']  leaf  Python float became Python int"),
        ({"w": jnp.zeros(4)}, "['w']  leaf  f32[3] became f32[4]"),
        ({"w": np.arange(3.0)}, "['w']  leaf  f32[3] became f64[3]"),
        ({"new": 1}, "['new']  leaf  Python int is in the second file only"),
    ],
    ids=str,
)
def test_a_difference_is_one_line(saved, change, line):
    assert repr(diff(saved, TREE, TREE | change)) == line


def test_a_leaf_of_the_first_file_only_is_named(saved):
    assert repr(diff(saved, {"a": 1, "b": 2}, {"b": 2})) == "['a']  leaf  Python int is in the first file only"


def test_static_values_classes_and_metadata_are_compared(saved):
    class Dense(eqx_core.Module):
        __schema__ = 2
        weight: jax.Array
        size: int = eqx_core.field(static=True, default=2)

    found = diff(saved, Linear(jnp.ones(1)), Dense(jnp.ones(1)), metadata={"step": "1"})
    assert repr(found).splitlines() == [
        "size  static  1 became 2",
        ".  class  Linear became Dense, schema 2",
        "step  metadata  (nothing) became 1",
    ]
    assert [(x.path, x.kind) for x in found] == [("size", "static"), (".", "class"), ("step", "metadata")]


def test_nodes_around_leaves_that_are_in_one_file_only_are_not_listed(saved):
    found = diff(saved, {"a": Linear(jnp.ones(1))}, {"a": Linear(jnp.ones(1)), "b": Linear(jnp.ones(1))})
    assert [x.path for x in found] == ["['b'].weight"]
    assert [x.path for x in diff(saved, {"a": []}, {"a": [], "b": []})] == ["['b']"]


def test_only_leaves_that_differ_are_read(saved):
    class Counting(io.BytesIO):
        count = 0

        def readinto(self, buffer):
            self.count += len(buffer)
            return super().readinto(buffer)

    tree = {"large": np.zeros(10**6), "small": np.zeros(3)}
    one, other = Counting(saved(tree)), Counting(saved(tree | {"small": np.ones(3)}))
    assert len(eqx_serialise.diff(one, other)) == 1
    assert max(one.count, other.count) < 3000


def test_a_damaged_leaf_is_an_error_and_no_difference(saved):
    content = saved([jnp.zeros(3)])
    header = saved([jnp.ones(3)])[: len(content) - 12]
    with pytest.raises(
        eqx_serialise.CheckpointError, match=r"`diff\(b=<BytesIO>\)` must be .* other values for `\[0\]`"
    ):
        eqx_serialise.diff(io.BytesIO(content), io.BytesIO(header + content[-12:]))
