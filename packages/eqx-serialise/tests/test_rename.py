"""Leaves of the file may be called otherwise in `like`."""

import io

import jax.numpy as jnp
import numpy as np
import pytest

import eqx_serialise

TREE = {"enc": {"w": jnp.arange(2.0), "b": jnp.ones(3)}, "rate": 0.5}
LIKE = {"encoder": {"w": jnp.zeros(2), "b": jnp.zeros(3)}, "rate": 0.0}


def load(saved, like, rename, tree=TREE, **kwargs):
    return eqx_serialise.load(io.BytesIO(saved(tree)), like, rename=rename, **kwargs)


@pytest.mark.parametrize(
    "rename",
    [
        {"['enc']": "['encoder']"},
        {"['enc']['w']": "['encoder']['w']", "['enc']['b']": "['encoder']['b']"},
        {"['enc']": "['nowhere']", "['enc']['w']": "['encoder']['w']", "['enc']['b']": "['encoder']['b']"},
        lambda name: name.replace("enc", "encoder"),
    ],
)
def test_leaves_go_to_their_new_names(saved, rename):
    loaded = load(saved, LIKE, rename)
    np.testing.assert_array_equal(loaded["encoder"]["w"], [0, 1])
    np.testing.assert_array_equal(loaded["encoder"]["b"], [1, 1, 1])
    assert loaded["rate"] == 0.5


def test_two_leaves_can_change_places(saved):
    tree = {"a": jnp.zeros(1), "b": jnp.ones(1)}
    loaded = load(saved, tree, {"['a']": "['b']", "['b']": "['a']"}, tree)
    assert (loaded["a"][0], loaded["b"][0]) == (1, 0)


def test_a_whole_tree_can_move_into_a_part_and_out_of_it(saved):
    inner = {"w": jnp.ones(2)}
    outer = load(saved, {"inner": {"w": jnp.zeros(2)}}, {".": "['inner']"}, inner)
    np.testing.assert_array_equal(outer["inner"]["w"], [1, 1])
    assert load(saved, inner, {"['inner']": "."}, outer)["w"][0] == 1


def test_an_error_in_a_renamed_leaf_names_the_leaf_of_the_file(saved):
    content = bytearray(saved({"old": jnp.zeros(4)}))
    content[-1] ^= 1
    with pytest.raises(eqx_serialise.CheckpointError, match=r"other values for `\['old'\]` \(bytes \d+ to"):
        eqx_serialise.load(io.BytesIO(bytes(content)), {"new": jnp.zeros(4)}, rename={"['old']": "['new']"})


@pytest.mark.parametrize(
    ("rename", "error", "match"),
    [
        (3, TypeError, r"`load\(rename=...\)` must be a mapping .* or a function; got `int`. Write `rename="),
        (lambda name: None, TypeError, r"must return a name; got `NoneType` for `.*`. Return"),
        ({1: "a"}, TypeError, r"must map names to names; got `int` to `str`. Write both"),
        ({"['ecn']": "['x']"}, ValueError, r"names that the file has; got `\['ecn'\]`.* nearest is `\['enc'\]`"),
        (lambda name: "x", ValueError, r"must keep names apart; got `x` for `.*` and for another leaf. Rename"),
        ({"['enc']['w']": "['enc']['b']"}, ValueError, r"must keep names apart; got `\['enc'\]\['b'\]`"),
    ],
)
def test_a_renaming_that_makes_no_sense_is_refused(saved, rename, error, match):
    with pytest.raises(error, match=match):
        load(saved, LIKE, rename)
