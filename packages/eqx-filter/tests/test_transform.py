import pickle
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

import eqx_core
import eqx_filter

Transformed, refuse_removed = eqx_filter._transform.Transformed, eqx_filter._transform.refuse_removed


class Twice(Transformed):
    """What doubles."""

    fun: Callable[..., Any]
    flag: bool = eqx_core.field(static=True, default=False)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __call__(self, *args: Any) -> Any:
        return self.fun(*args) * 2


def add(x: int, y: int) -> int:
    """Add."""
    return x + y


class Model(eqx_core.Module):
    """A model."""

    weight: Any

    @Twice
    def method(self, x):
        return self.weight + x


def test_the_instance_has_the_name_of_what_it_wraps():
    twice = Twice(add)
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(twice, name) == getattr(add, name)
    assert Twice(Twice(add)).__name__ == "add"


def test_the_class_has_its_own():
    assert (Twice.__name__, Twice.__doc__, Twice.__module__) == ("Twice", "What doubles.", __name__)
    assert set(Twice.__annotations__) == {"fun", "flag"}
    assert pickle.loads(pickle.dumps(Twice)) is Twice


def test_what_the_wrapped_has_not_the_wrapper_has_not():
    wrapper = Twice(Model(1))
    assert wrapper.__doc__ == "A model."
    for name in ("__name__", "other"):
        with pytest.raises(AttributeError, match=name):
            getattr(wrapper, name)


def test_it_binds_like_a_function():
    assert Model(1).method(2) == 6
    assert Model.method(Model(1), 2) == 6
    assert Model.method.flag is False


def test_its_leaves_are_those_of_what_it_wraps():
    array = jnp.ones(1)
    assert jtu.tree_leaves(Twice(Model(array)))[0] is array
    assert jtu.tree_structure(Twice(Model(1))) == jtu.tree_structure(Twice(Model(2)))
    assert jtu.tree_structure(Twice(add, True)) != jtu.tree_structure(Twice(add))
    assert Twice(add) == Twice(add)


def test_removed_options_are_refused():
    refuse_removed("f", ["inline"], ["out"])
    with pytest.raises(ValueError, match=r"`f\(out=...\)` must not be given: the option went away in Equinox 0\.10\.0"):
        refuse_removed("f", {"inline": 1, "out": 2}, ["out"])
