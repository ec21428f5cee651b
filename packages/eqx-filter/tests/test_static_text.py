"""What is no array, as text that does not depend on the process."""

import enum
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
import eqx_filter._static_text

static_text = eqx_filter._static_text.static_text
static_texts = eqx_filter._static_text.static_texts


class Colour(enum.Enum):
    RED = 1


class Inner(eqx_core.Module):
    weight: object
    size: object = eqx_core.field(static=True)


class Outer(eqx_core.Module):
    inner: object
    items: object
    name: object = eqx_core.field(static=True, default="outer")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (True, "True"),
        (-0.0, "-0.0"),
        ("a", "'a'"),
        (b"a", "b'a'"),
        (None, "None"),
        ((1, [2.0]), "tuple(1, list(2.0))"),
        ({"a": len}, "dict('a': len)"),
        (jnp.tanh, "tanh"),
        (jax.nn.relu, "relu"),
        (lambda x: x, "<lambda>"),
        (Colour.RED, "<Colour.RED: 1>"),
        (np.dtype("float32"), "dtype('float32')"),
        (functools.partial(len), "partial"),
        (object(), "object"),
        (int, "int"),
    ],
)
def test_a_value_is_written_without_addresses(value, text):
    assert static_text(value) == text


def test_static_fields_and_leaves_are_found_at_any_depth():
    tree = Outer({"k": Inner(jnp.ones(2), 3)}, [Inner(jax.ShapeDtypeStruct((), "int8"), "s"), 1.5, None])
    assert dict(static_texts("m", tree)) == {
        "m.name": "'outer'",
        "m.inner['k'].size": "3",
        "m.items[0].size": "'s'",
        "m.items[1]": "1.5",
    }


@pytest.mark.parametrize("tree", [None, (), np.ones(2), {"a": jnp.ones(2)}])
def test_arrays_have_no_text(tree):
    assert list(static_texts("x", tree)) == []


def test_a_bound_method_says_whose_it_is():
    class Model(eqx_core.Module):
        weight: object

        def step(self):
            return self.weight

    assert dict(static_texts("f", Model(1).step)) == {"f.__func__": "step", "f.__self__.weight": "1"}
