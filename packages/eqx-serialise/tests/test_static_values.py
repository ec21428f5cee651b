"""Static values in a file are those of the model just if they look the same."""

import enum
import io
import math
from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import eqx_core
import eqx_serialise


class Model(eqx_core.Module):
    x: float
    static: object = eqx_core.field(static=True)


def described(value):
    """Return what a file says of a static value, None if nothing."""
    file = io.BytesIO()
    eqx_serialise.save(file, Model(1.0, value))
    file.seek(0)
    return eqx_serialise.inspect(file).static.get("static")


def difference(one, other):
    """Return the line of the report about two static values, None if one is taken for the other."""
    file = io.BytesIO()
    eqx_serialise.save(file, Model(1.0, one))
    file.seek(0)
    try:
        eqx_serialise.load(file, Model(0.0, other))
    except eqx_serialise.CheckpointError as error:
        return str(error).splitlines()[2].strip()


words = st.text(st.characters(codec="utf-8"), max_size=3)
atoms = st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | words
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(words, inner, max_size=2).map(lambda d: dict(sorted(d.items())))
    ),
    max_leaves=5,
)


@given(one=values, other=values)
def test_two_values_differ_just_if_they_print_differently(one, other):
    assert (difference(one, other) is None) == (repr(one) == repr(other))
    assert difference(one, one) is None


@given(value=values)
def test_a_value_is_reported_as_python_prints_it(value):
    text = repr(value)
    if "nan" not in text and len(text) < 200 and text.isprintable():
        assert difference(value, jax.nn.relu) == f"static: {text} in the file, function relu in `like`"


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "description"),
    [
        (Colour.RED, {"enum": "Colour.RED"}),
        (np.dtype("f4"), {"dtype": "float32"}),
        (jnp.dtype(jnp.bfloat16), {"dtype": "bfloat16"}),
        (jax.nn.relu, {"function": "relu"}),
        (np.float32, {"class": "float32"}),
        (len, {"function": "len"}),
        (math.nan, {"float": "nan:7ff8000000000000"}),
    ],
)
def test_what_has_a_name_is_called_by_it(value, description):
    assert described(value) == description


def _private():
    pass


UNSAYABLE = [lambda: 1, _private, partial(len), object(), b"x", "\ud800", {1: 2}, [object()]]


@pytest.mark.parametrize("index", range(len(UNSAYABLE)))
def test_what_json_cannot_say_is_not_written(index):
    assert described(UNSAYABLE[index]) is None


def test_lists_are_followed_only_so_far():
    deep = 1
    for _ in range(8):
        deep = [deep]
    assert described(deep) is not None
    assert described([deep]) is None


def test_a_long_value_is_cut_in_a_report():
    assert len(difference("x" * 10_000, None)) < 300
