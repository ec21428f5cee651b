"""Modules that carry the name and documentation of what they wrap."""

import functools
import inspect
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

import eqx_core as eqx

NAMES = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__")


class Wrapper(eqx.Module):
    """Of the class."""

    fn: Any
    scale: Any = 1

    @property
    def __wrapped__(self):
        return self.fn

    def __call__(self, *args):
        return self.fn(*args)


def function(x: int) -> str:
    """Of the function."""
    return str(x)


function.extra = "not copied"


class Layer(eqx.Module):
    weight: Any

    def __call__(self, x):
        return x


def test_the_attributes_are_those_of_the_wrapped():
    wrapped = eqx.module_update_wrapper(Wrapper(function))
    for copy in (wrapped, jtu.tree_map(lambda x: x, wrapped), pickle.loads(pickle.dumps(wrapped))):
        for name in NAMES:
            assert getattr(copy, name) == getattr(function, name)
        assert not hasattr(copy, "extra")
        assert inspect.signature(copy) == inspect.signature(function)
        assert inspect.unwrap(copy) is function
        assert copy(3) == "3"
    assert Wrapper.__doc__ == Wrapper(function).__doc__ == "Of the class."


def test_the_original_stays_as_it_is():
    wrapper = Wrapper(function)
    eqx.module_update_wrapper(wrapper)
    assert not hasattr(wrapper, "__name__")


def test_attributes_can_come_from_elsewhere():
    wrapped = eqx.module_update_wrapper(Wrapper(function), len)
    assert (wrapped.__name__, wrapped.__doc__) == ("len", len.__doc__)
    assert wrapped.__annotations__ == Wrapper.__annotations__  # `len` has none


def test_missing_attributes_are_left_out():
    wrapped = eqx.module_update_wrapper(Wrapper(functools.partial(function)))
    assert not hasattr(wrapped, "__name__")
    assert wrapped.__doc__ == functools.partial(function).__doc__


@pytest.mark.parametrize("wrapped", [Layer(1), Wrapper(Layer(1)), len, jax.jit(function), Layer(1).__call__])
def test_anything_callable_can_be_wrapped(wrapped):
    made = eqx.module_update_wrapper(Wrapper(wrapped))
    assert jtu.tree_structure(made) == jtu.tree_structure(eqx.module_update_wrapper(Wrapper(wrapped)))
    assert made == eqx.module_update_wrapper(Wrapper(wrapped))


def test_wrapped_layers_of_one_shape_have_one_structure():
    one, other = (eqx.module_update_wrapper(Wrapper(Layer(jnp.full(2, x)))) for x in (1.0, 2.0))
    assert jtu.tree_structure(one) == jtu.tree_structure(other)
    assert jtu.tree_structure(one) != jtu.tree_structure(Wrapper(Layer(jnp.ones(2))))
    assert (one == Wrapper(Layer(jnp.ones(2)))) is False


def test_the_attributes_survive_transformations_and_cost_one_trace():
    traces = []

    @jax.jit
    def f(module):
        traces.append(module.__name__)
        return module

    class Array(Wrapper):
        @property
        def __wrapped__(self):
            return function

    for value in (1.0, 2.0):
        out = f(eqx.module_update_wrapper(Array(jnp.array(value))))
        assert out.__name__ == "function"
    assert traces == ["function"]
    stacked = eqx.module_update_wrapper(Array(jnp.ones(3), jnp.ones(3)))
    assert jax.vmap(lambda m: m)(stacked).__doc__ == "Of the function."
    out, _ = jax.lax.scan(lambda m, _: (m, None), out, None, length=2)
    assert out.__qualname__ == "function"


@pytest.mark.parametrize("attribute", [None, 1, "method"])
def test_the_class_must_have_the_property(attribute):
    body = {"__annotations__": {"fn": Any}}
    if attribute is not None:
        body["__wrapped__"] = attribute
    cls = type(eqx.Module)("Bad", (eqx.Module,), body)
    with pytest.raises(
        ValueError, match=r"`module_update_wrapper\(wrapper=...\)` must be a Module whose .*a `Bad`\. Add"
    ):
        eqx.module_update_wrapper(cls(function))


def test_it_works_within_init_subclass_and_descriptors():
    class Method(Wrapper):
        def __get__(self, instance, owner=None):
            return self if instance is None else eqx.Partial(self, instance)

    def decorate(fn):
        return eqx.module_update_wrapper(Method(fn))

    class A(eqx.Module):
        x: Any

        @decorate
        def double(self):
            """Twice."""
            return self.x * 2

    assert A(2).double() == 4
    assert type(A(2).double) is eqx.Partial
    assert A.double.__name__ == "double"
    assert jtu.tree_leaves(A(2).double)[-1] == 2
