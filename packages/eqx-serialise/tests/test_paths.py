"""A path stands for what is below it in the tree, and for nothing that is only called alike."""

import io
from dataclasses import dataclass

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import eqx_serialise

keys = st.text(max_size=4) | st.sampled_from(["a", "a.b", "a'", 'a"', "a]", "[0]", "']['"])
trees = st.recursive(
    st.just(1),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(keys, inner, min_size=1, max_size=3),
    max_leaves=8,
)


def load(tree, like, **kwargs):
    file = io.BytesIO()
    eqx_serialise.save(file, tree)
    file.seek(0)
    return eqx_serialise.load(file, like, **kwargs)


def name_of(path):
    return jtu.keystr(path) or "."


@settings(max_examples=60)
@given(tree=trees)
def test_a_path_picks_the_leaves_below_it(tree):
    like = jtu.tree_map(lambda _: 0, tree)
    paths = [path for path, _ in jtu.tree_leaves_with_path(tree)]
    for node in {path[:end] for path in paths for end in range(len(path) + 1)}:
        if any(letter in name_of(node) for letter in "*?"):
            continue
        found = load(tree, like, only=name_of(node))
        assert jtu.tree_leaves(found) == [int(path[: len(node)] == node) for path in paths]


@settings(max_examples=60)
@given(tree=trees)
def test_a_tree_moves_into_a_part_and_out_again(tree):
    like = jtu.tree_map(lambda _: 0, tree)
    inner = load(tree, {"part": like, "rest": None}, rename={".": "['part']"})
    assert inner == {"part": tree, "rest": None}
    assert load(inner, like, rename={"['part']": "."}) == tree


@pytest.mark.parametrize(("only", "picked"), [("[1]", [1]), ("[10]", [10]), ("[1*]", [1, 10, 11])])
def test_a_number_is_no_beginning_of_another(only, picked):
    found = load([1] * 12, [0] * 12, only=only)
    assert [i for i, x in enumerate(found) if x] == picked


def test_an_attribute_is_no_beginning_of_another():
    @jtu.register_dataclass
    @dataclass
    class Model:
        enc: dict
        encoder: dict

    one = Model({"w": jnp.ones(1)}, {"w": jnp.ones(1)})
    found = load(one, jtu.tree_map(jnp.zeros_like, one), only="enc")
    np.testing.assert_array_equal([found.enc["w"][0], found.encoder["w"][0]], [1, 0])
