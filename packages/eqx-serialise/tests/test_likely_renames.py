"""What was renamed is guessed, and the guess can be passed as it is printed."""

import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_serialise


def tree(names, start=0.0, shape=(2,)):
    return {name: jnp.full(shape, start + i) for i, name in enumerate(names)}


def suggestion(saved, file, like):
    """Return the mapping that the report says to pass, and the report."""
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        eqx_serialise.load(io.BytesIO(saved(file)), like)
    found = re.search(r"`rename=(\{.*\})`", str(error.value))
    return (eval(found[1]) if found else {}), str(error.value)


def check(saved, file, like, expected):
    mapping, text = suggestion(saved, file, like)
    assert mapping == expected, text
    loaded = eqx_serialise.load(io.BytesIO(saved(file)), like, rename=mapping)
    assert jax.tree.structure(loaded) == jax.tree.structure(like)
    return loaded


def test_one_leaf_of_its_shape_is_taken_for_the_other(saved):
    loaded = check(saved, tree("wb"), tree("b") | {"kernel": jnp.zeros(2)}, {"['w']": "['kernel']"})
    np.testing.assert_array_equal(loaded["kernel"], [0, 0])


def test_of_several_those_with_names_most_alike_belong_together(saved):
    file, like = tree(["weigth", "bais"]), tree(["bias", "weight"], 5.0)
    loaded = check(saved, file, like, {"['weigth']": "['weight']", "['bais']": "['bias']"})
    np.testing.assert_array_equal(loaded["weight"], [0, 0])


def test_another_shape_or_dtype_is_no_likely_rename(saved):
    like = {"a": jnp.zeros(3), "b": jnp.zeros(2, jnp.int32), "c": 0.0}
    assert suggestion(saved, tree("x"), like)[0] == {}


def test_names_with_nothing_in_common_are_not_paired(saved):
    assert suggestion(saved, tree(["aaaa", "bbbb"]), tree(["yyyy", "zzzz"]))[0] == {}


def test_a_renamed_part_is_one_line_however_large(saved):
    def model(name):
        layers = [{"weight": jnp.full((4, 4), float(i)), "bias": jnp.zeros(4)} for i in range(40)]
        return {name: layers, "head": jnp.zeros((4, 4))}

    loaded = check(saved, model("enc"), model("encoder"), {"['enc']": "['encoder']"})
    assert [int(layer["weight"][0, 0]) for layer in loaded["encoder"]] == list(range(40))


def test_a_part_of_which_something_stays_is_not_moved_as_a_whole(saved):
    file = {"enc": {"a": jnp.zeros(2), "b": jnp.ones(2)}}
    like = {"enc": {"a": jnp.zeros(2)}, "encoder": {"b": jnp.ones(2)}}
    check(saved, file, like, {"['enc']['b']": "['encoder']['b']"})


def test_a_tree_that_moves_down_is_found(saved):
    file, like = {"w": jnp.ones(2)}, {"inner": {"w": jnp.zeros(2)}}
    check(saved, file, like, {"['w']": "['inner']['w']"})


def test_the_report_says_what_became_what(saved):
    text = suggestion(saved, tree("w"), tree("k"))[1]
    assert "  likely renamed (1):\n    ['w'] -> ['k']\n" in text
    assert """  `rename={"['w']": "['k']"}`, if these are the same leaves\n""" in text
