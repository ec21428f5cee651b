"""`Static`: any value as structure."""

import enum
import pickle

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, strategies as st

from eqx_core.internal import Static

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2) | st.tuples(inner) | st.dictionaries(st.text(max_size=1), inner, max_size=2)
    ),
    max_leaves=5,
)


class Kind(enum.Enum):
    A = 1


@given(values)
def test_the_value_comes_back(value):
    static = Static(value)
    assert jtu.tree_leaves(static) == []
    assert static.value == value
    assert type(static.value) is type(value)
    assert jtu.tree_structure(static) == jtu.tree_structure(Static(value))
    again = jtu.tree_unflatten(jtu.tree_structure(static), [])
    assert again == static
    assert again.value == value
    assert pickle.loads(pickle.dumps(static.leaves)) == static.leaves


@given(values, values)
def test_other_values_have_other_structures(a, b):
    if a != b:
        assert jtu.tree_structure(Static(a)) != jtu.tree_structure(Static(b))


@pytest.mark.parametrize("value", ["text", None, [1, {"a": (2, None)}], len, Kind.A, jnp.float32, {}, jax.nn.relu])
def test_anything_goes_through_a_transformation(value):
    assert jax.jit(lambda: Static(value))().value == value
    assert jax.eval_shape(lambda: Static(value)).value == value
    (out, _) = jax.lax.scan(lambda carry, _: (carry, None), Static(value), None, length=2)
    assert out == Static(value)


def test_types_are_told_apart():
    assert Static(1) != Static(True)
    assert Static([1.0]) != Static([1])
    assert Static(0.0) != Static(-0.0)
    assert Static([1]) != Static((1,))


@pytest.mark.parametrize("value", [np.ones(2), jnp.ones(2), {"a": np.ones(1)}])
def test_arrays_are_warned_of(value):
    with pytest.warns(UserWarning, match="A JAX array is being set as static!"):
        Static(value)


def test_a_module_can_be_held():
    assert Static(Static(1)).value == Static(1)
