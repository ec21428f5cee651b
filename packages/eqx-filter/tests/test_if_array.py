"""`if_array` gives arrays an axis, and nothing else."""

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_filter


@pytest.mark.parametrize("array", [jnp.ones(3), np.ones(3), np.float32(1), jr.key(0)])
def test_an_array_has_the_axis(array):
    assert eqx_filter.if_array(1)(array) == 1


@pytest.mark.parametrize("leaf", [1, 1.0, True, 1j, "a", None, len, jax.ShapeDtypeStruct((3,), jnp.float32)])
def test_what_is_no_array_has_none(leaf):
    assert eqx_filter.if_array(1)(leaf) is None


def test_a_tracer_has_the_axis():
    axes = []
    jax.jit(lambda x: axes.append(eqx_filter.if_array(-1)(x)))(1.0)
    assert axes == [-1]


def test_two_are_equal_if_their_axes_are():
    assert eqx_filter.if_array(1) == eqx_filter.if_array(1) != eqx_filter.if_array(0)
    assert len({eqx_filter.if_array(1), eqx_filter.if_array(1), eqx_filter.if_array(2)}) == 2


def test_it_is_a_leaf():
    axis = eqx_filter.if_array(0)
    assert jtu.tree_leaves(axis) == [axis]


def test_it_does_not_change():
    with pytest.raises(AttributeError):
        eqx_filter.if_array(0).axis = 1


def test_its_axis_shows():
    assert repr(eqx_filter.if_array(-2)) == "if_array(axis=-2)"


@pytest.mark.parametrize("axis", [None, 1.0, True, "0"])
def test_the_axis_must_be_an_int(axis):
    with pytest.raises(TypeError, match=r"`if_array\(axis=\.\.\.\)` must be an int; got"):
        eqx_filter.if_array(axis)
