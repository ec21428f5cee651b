"""`Partial`, and `BoundMethod` made by hand; methods looked up on instances are in `test_method.py`."""

import copy
import inspect
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest
from hypothesis import given, strategies as st

import eqx_core as eqx
from eqx_core.internal import BoundMethod


def collect(*args, **kwargs):
    return args, kwargs


class Affine(eqx.Module):
    weight: Any

    def __call__(self, x, shift=0.0):
        return self.weight * x + shift


numbers = st.lists(st.integers(), max_size=3)
named = st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=2)


@given(numbers, named, numbers, named)
def test_a_partial_calls_with_all_arguments(args, kwargs, more, more_kwargs):
    partial = eqx.Partial(collect, *args, **kwargs)
    if kwargs.keys() & more_kwargs.keys():
        with pytest.raises(TypeError, match="multiple values for keyword argument"):
            partial(*more, **more_kwargs)
    else:
        assert partial(*more, **more_kwargs) == (tuple(args + more), kwargs | more_kwargs)


def test_a_partial_takes_any_keyword():
    partial = eqx.Partial(collect, self=1, func=2, cls=3)
    assert partial(instance=4) == ((), {"self": 1, "func": 2, "cls": 3, "instance": 4})
    assert eqx.Partial(collect)(self=1) == ((), {"self": 1})


def test_the_parts_of_a_partial_are_its_children():
    partial = eqx.Partial(Affine(jnp.array(2.0)), jnp.array(3.0), shift=jnp.array(1.0))
    paths = [jtu.keystr(path) for path, _ in jtu.tree_flatten_with_path(partial)[0]]
    assert paths == [".func.weight", ".args[0]", ".keywords['shift']"]
    assert partial().item() == 7.0
    assert jax.jit(lambda f: f())(partial).item() == 7.0
    assert jax.grad(lambda f: f())(partial).func.weight.item() == 3.0
    assert (partial.func.weight.item(), len(partial.args), list(partial.keywords)) == (2.0, 1, ["shift"])


def test_a_partial_is_a_carry_of_scan():
    partial = eqx.Partial(Affine(jnp.array(2.0)), shift=jnp.array(1.0))
    out, ys = jax.lax.scan(lambda f, x: (f, f(x)), partial, jnp.arange(2.0))
    assert jtu.tree_structure(out) == jtu.tree_structure(partial)
    assert ys.tolist() == [1.0, 3.0]


def test_partials_can_be_compared_copied_and_pickled():
    assert eqx.Partial(collect, 1, a=2) == eqx.Partial(collect, 1, a=2)
    assert eqx.Partial(collect, 1) != eqx.Partial(collect, 2)
    for again in (copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))):
        partial = eqx.Partial(collect, 1, a=[2])
        assert again(partial) == partial
        assert jtu.tree_structure(again(partial)) == jtu.tree_structure(partial)


def test_a_partial_of_a_kind_is_generic():
    assert jtu.tree_structure(eqx.Partial[int](len)) == jtu.tree_structure(eqx.Partial(len))
    assert list(inspect.signature(eqx.Partial).parameters) == ["func", "args", "kwargs"]


def test_a_bound_method_can_be_made_by_hand():
    made = BoundMethod(Affine.__call__, Affine(2.0))
    assert made(3.0, shift=1.0) == 7.0
    assert jtu.tree_leaves(made) == [2.0]
    assert made == BoundMethod(Affine.__call__, Affine(2.0))
    assert jtu.tree_map(lambda x: x * 2, made)(3.0) == 12.0


def test_a_bound_method_is_frozen():
    with pytest.raises(AttributeError, match="cannot assign to field '__name__'"):
        BoundMethod(collect, Affine(1.0)).__name__ = "other"


class Cell(eqx.Module):
    weight: jax.Array

    def step(self, carry, x):
        return carry * self.weight + x, carry

    def scaled(self, x):
        return self.weight * x


def _step(weight, carry, x):
    return carry * weight + x, carry


STEPS = {"bound method": lambda w: Cell(w).step, "Partial": lambda w: eqx.Partial(_step, w)}
XS = jnp.arange(3.0)


def _last(w):
    return float(((0 * w + 0) * w + 1) * w + 2)


@pytest.mark.parametrize("step", STEPS)
def test_scan_takes_what_holds_arrays_also_while_differentiating(step):
    def total(w):
        return jax.lax.scan(STEPS[step](w), jnp.zeros(()), XS)[0]

    # The objects of before are gone, and new ones are where they were.
    for w in map(float, range(1, 30)):
        assert total(jnp.array(w)) == _last(w)
        assert jax.grad(total)(jnp.array(w)) == 1
    for transformed in (jax.jit(jax.grad(total)), jax.grad(jax.jit(total)), jax.grad(jax.checkpoint(total))):
        assert transformed(jnp.array(3.0)) == 1
    assert jax.vmap(total)(jnp.array([1.0, 2.0])).tolist() == [_last(1), _last(2)]


def test_switch_takes_bound_methods_that_are_differentiated():
    def value(cells, i):
        return jax.lax.switch(i, [cell.scaled for cell in cells], 3.0)

    cells = [Cell(jnp.array(2.0)), Cell(jnp.array(5.0))]
    assert [value(cells, i).item() for i in range(2)] == [6, 15]
    for transformed in (jax.grad(value), jax.jit(jax.grad(value))):
        assert [cell.weight.item() for cell in transformed(cells, 1)] == [0, 3]
        assert [cell.weight.item() for cell in transformed(cells, 0)] == [3, 0]


def test_what_holds_arrays_is_hashed_by_identity():
    cell, other = Cell(jnp.array([1.0, jnp.nan])), Cell(jnp.array([1.0, jnp.nan]))
    assert cell.step == cell.step
    assert {cell.step: 1}[cell.step] == 1
    assert hash(cell.step) != hash(cell.scaled)
    assert hash(cell.step) != hash(other.step)
    partial = eqx.Partial(_step, jnp.ones(()))
    assert {partial: 1}[partial] == 1
    assert bool(partial == eqx.Partial(_step, jnp.ones(())))
    assert hash(eqx.Partial(_step, 1)) == hash(eqx.Partial(_step, 1))


def test_traced_values_are_not_compared():
    def fun(w):
        cell, partial = Cell(w), eqx.Partial(_step, w)
        assert (cell.step == cell.step) is True
        assert (partial == partial) is True
        return w

    jax.jit(fun)(1.0)
    jax.grad(fun)(1.0)
