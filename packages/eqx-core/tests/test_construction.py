"""A metaclass may construct Modules in its own way."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import eqx_core
from eqx_core.internal import begin_construction, end_construction


class Scale(eqx_core.Module):
    factor: jax.Array
    power: float = eqx_core.field(static=True)

    def __init__(self, factor, power):
        self.factor = jnp.asarray(factor)
        self.power = power


def construct(*args):
    scale = Scale.__new__(Scale)
    begin_construction(scale)
    try:
        scale.__init__(*args)
    finally:
        end_construction(scale)
    return scale


def test_the_result_is_that_of_calling_the_class():
    assert eqx_core.tree_equal(construct(2.0, 3.0), Scale(2.0, 3.0))
    assert jax.tree.structure(construct(2.0, 3.0)) == jax.tree.structure(Scale(2.0, 3.0))


def test_static_values_of_another_type_are_told_apart_by_instances_made_so():
    class Counted(eqx_core.Module):
        n: object = eqx_core.field(static=True)

    def made(n):
        counted = Counted.__new__(Counted)
        begin_construction(counted)
        counted.n = n
        end_construction(counted)
        return jax.tree.structure(counted)

    assert made(1.0) == made(1.0)
    assert made((1, 0.0)) != made((1, -0.0))
    assert made((1,)) != made((True,))


def test_the_instance_is_frozen_before_and_after():
    scale = Scale.__new__(Scale)
    with pytest.raises(dataclasses.FrozenInstanceError):
        scale.power = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        construct(2.0, 3.0).power = 1.0


def test_what_was_not_begun_cannot_end():
    with pytest.raises(KeyError):
        end_construction(Scale(2.0, 3.0))
