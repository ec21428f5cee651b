from typing import Any

import jax.numpy as jnp
import pytest

import eqx_core


class Layer(eqx_core.Module):
    weight: Any
    bias: Any


class Model(eqx_core.Module):
    layers: list

    def layer(self, i):
        return self.layers[i]


MODEL = Model([Layer(jnp.zeros((2, 3)), None), Layer(jnp.zeros((2, 3)), jnp.zeros(2))])


@pytest.mark.parametrize(
    ("where", "error", "place", "there", "step"),
    [
        (
            lambda m: m.layers[0].wieght,
            AttributeError,
            "`.layers[0]`",
            "`Layer(weight=f32[2,3], bias=None)`",
            "`.wieght`",
        ),
        (lambda m: m.layers[5].weight, IndexError, "`.layers`", "`list` `[Layer(", "`[5]`"),
        (lambda m: m.layers["a"], TypeError, "`.layers`", "`list` `[Layer(", "`['a']`"),
        (lambda m: m.foo(), AttributeError, "the root", "`Model(layers=[Layer(", "`.foo`"),
        (lambda m: m.layer(7), IndexError, "`.layer`", "", "`()`"),
        (lambda m: m.layers[0].weight[0], TypeError, "`.layers[0].weight`", "a leaf, `f32[2,3]`", "`[0]`"),
        (lambda m: m.layers[0].weight.T, AttributeError, "`.layers[0].weight`", "a leaf, `f32[2,3]`", "`.T`"),
        (lambda m: [x.weight.at[0] for x in m.layers], AttributeError, "`.layers[0].weight`", "a leaf", "`.at`"),
        (lambda m: m.layers[1].bias + 1, TypeError, "`.layers[1].bias`", "a leaf, `f32[2]`", ""),
        (lambda m: sum(m.layers[1].bias), TypeError, "`.layers[1].bias`", "a leaf, `f32[2]`", ""),
        (lambda m: {"x": m.layers}["y"], KeyError, "`.layers`", "a node, `list`", ""),
    ],
)
def test_an_error_in_where_says_where_and_what_was_there(where, error, place, there, step):
    with pytest.raises(error) as caught:
        eqx_core.tree_at(where, MODEL, 1)
    (note,) = caught.value.__notes__
    assert note.startswith(f"`tree_at(where=...)` went wrong at {place}, where there is ")
    assert there in note
    assert (f"it has no {step}" in note) if step else ("it has no" not in note)
    assert "`where` must only select" in note


def test_an_error_that_cannot_be_repeated_gets_no_note():
    calls = []

    def where(m):
        calls.append(m)
        if len(calls) == 1:
            raise RuntimeError("first")
        return m.layers

    with pytest.raises(RuntimeError, match="first") as caught:
        eqx_core.tree_at(where, MODEL, 1)
    assert not hasattr(caught.value, "__notes__")

    def picky(m):
        if not isinstance(m, Model):
            raise ValueError("no model")
        raise RuntimeError("second")

    with pytest.raises(RuntimeError, match="second") as caught:
        eqx_core.tree_at(picky, MODEL, 1)
    assert not hasattr(caught.value, "__notes__")


def test_lengths_and_items_can_be_asked_on_the_way():
    with pytest.raises(AttributeError) as caught:
        eqx_core.tree_at(lambda t: [t[k].foo for k in t if len(t[k]) > 1], {"a": [1], "b": [2, 3]}, 1)
    assert "went wrong at `['b']`" in caught.value.__notes__[0]


def test_a_description_is_one_short_line():
    with pytest.raises(ValueError, match=r"got `list` .{80}\.\.\.|got `list` `.{77}\.\.\.`") as caught:
        eqx_core.tree_at(lambda t: list(range(1000)) and [[t[0]] * 500, t[1]], (1, 2), 5)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
