"""Values that are refused or warned of at construction."""

import functools
import types
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import eqx_core as eqx

HIDDEN = "Possibly assigning a JAX-transformed callable as an attribute"


class Layer(eqx.Module):
    weight: Any

    def __call__(self, x):
        return self.weight * x

    def method(self, x):
        return self.weight * x


class Holder(eqx.Module):
    f: Any


class CustomHolder(eqx.Module):
    f: Any

    def __init__(self, f):
        self.f = f


class CarefulHolder(eqx.Module):
    f: Any
    g: Any = eqx.field(converter=lambda x: x, default=None)


class StaticHolder(eqx.Module):
    f: Any = eqx.field(static=True)


def custom_vjp(function):
    out = jax.custom_vjp(function)
    out.defvjp(lambda x: (function(x), None), lambda _, g: (g,))
    return out


TRANSFORMS = [
    jax.jit,
    jax.grad,
    jax.vmap,
    jax.value_and_grad,
    jax.jacfwd,
    jax.jacrev,
    jax.hessian,
    jax.custom_jvp,
    custom_vjp,
    jax.checkpoint,
    jax.pmap,
    lambda f: jax.jit(jax.vmap(jax.grad(f))),
    lambda f: functools.wraps(f)(lambda x: f(x)),
]
HOLDERS = [Holder, CustomHolder, CarefulHolder, StaticHolder]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_a_transformed_layer_is_warned_of(holder, transform):
    layer = Layer(jnp.array(2.0))
    for callable_ in (layer, layer.method, Layer(1.0)):
        transformed = transform(callable_)
        if not hasattr(transformed, "__wrapped__"):
            pytest.skip("this version of JAX does not tell what `pmap` wraps")
        with pytest.warns(UserWarning, match=rf"{HIDDEN}: `{holder.__qualname__}\.f` is the result") as caught:
            holder(transformed)
        assert len(caught) == 1
        assert caught[0].filename == __file__


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_a_transformed_function_is_silent(holder, transform):
    for callable_ in (jnp.sin, lambda x: x, functools.partial(jnp.add, 1.0), Layer(None)):
        holder(transform(callable_))


@pytest.mark.parametrize("holder", [Holder, CustomHolder, CarefulHolder])
def test_containers_are_looked_into_and_the_path_is_named(holder):
    hidden = jax.jit(Layer(jnp.array(1.0)))
    for value, path in (
        ([hidden], r"\[0\]"),
        ((1, {"a": [None, hidden]}), r"\[1\]\['a'\]\[1\]"),
        ({"k": hidden, 1: 2}, r"\['k'\]"),
    ):
        with pytest.warns(UserWarning, match=rf"{HIDDEN}: `{holder.__qualname__}\.f{path}` is") as caught:
            holder(value)
        assert [warning.filename for warning in caught] == [__file__]
    holder([jnp.ones(2), (1, "text"), {"a": jax.nn.relu}, {1, 2}])


def test_a_layer_itself_is_silent():
    layer = Layer(jnp.array(1.0))
    for value in (layer, layer.method, eqx.Partial(layer), [layer], functools.partial(layer)):
        Holder(value)


def test_the_warning_comes_once_for_one_place_of_many():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            Holder(jax.jit(Layer(1.0)))
    assert len(caught) == 1


def test_the_line_is_that_of_the_construction_through_any_metaclass_and_super():
    class Meta(type(eqx.Module)):
        def __call__(cls, *args):
            return super().__call__(*args)

    class A(Holder, metaclass=Meta):
        def __init__(self, f):
            super().__init__(f)

    with pytest.warns(UserWarning, match=HIDDEN) as caught:
        A(jax.jit(Layer(1.0)))
    assert caught[0].filename == __file__


class Self(eqx.Module):
    f: Any

    def __init__(self, wrap):
        self.f = wrap(self)

    def method(self):
        return 1

    @jax.jit
    def jitted(self):
        return 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda self: self.method,
        lambda self: self.jitted,
        lambda self: types.MethodType(len, self),
        lambda self: [{"a": (self.method,)}],
        lambda self: super(Self, self).__repr__ and self.method,
    ],
)
def test_an_own_method_is_refused(wrap):
    with pytest.raises(
        ValueError, match=r"Cannot assign methods in __init__: `Self\.f.*` is the instance's own method"
    ):
        Self(wrap)


@pytest.mark.parametrize("wrap", [lambda self: self, lambda self: (1, [self]), lambda self: {"a": self}])
def test_the_instance_itself_is_refused(wrap):
    with pytest.raises(ValueError, match=r"`Self\.f.*` must not be the instance itself: .*Leave the field out"):
        Self(wrap)


def test_methods_of_equal_instances_are_accepted():
    other = Self(lambda self: 1)
    assert Self(lambda self: other.method).f() == 1
    assert Self(lambda self: [other]).f[0] is other


def test_an_own_method_that_is_only_called_or_handed_on_is_fine():
    seen = []

    class A(eqx.Module):
        x: Any

        def __init__(self):
            seen.append(self.f)
            self.x = self.f()

        def f(self):
            return 1

    assert A().x == 1
    assert seen[0]() == 1


def test_a_static_dict_may_have_keys_that_cannot_be_sorted():
    table = {"k": 1, 1: None}
    assert StaticHolder(table) == StaticHolder(dict(reversed(table.items())))

    class A(eqx.Module):
        table: Any = eqx.field(static=True, init=False, default_factory=lambda: {"k": 1, 1: 2})

    assert hash(A()) == hash(A())


class TestPostInit:
    def test_it_is_warned_of_where_nothing_calls_it(self):
        with pytest.warns(
            UserWarning, match=r"`.*A` has both an `__init__` method and a `__post_init__` method"
        ) as caught:

            class A(eqx.Module):
                def __init__(self):
                    pass

                def __post_init__(self):
                    pass

        assert caught[0].filename == __file__

    def test_it_is_warned_of_whichever_of_the_two_is_inherited(self):
        class Init(eqx.Module):
            def __init__(self):
                pass

        class Post(eqx.Module):
            def __post_init__(self):
                pass

        class PlainPost:
            def __post_init__(self):
                pass

        for bases in ((Init, Post), (Init, PlainPost), (PlainPost, Init)):
            with pytest.warns(UserWarning, match="__post_init__"):
                type(eqx.Module)("A", bases, {})
        type(eqx.Module)("A", (Post, Init), {})()

    def test_five_cooperating_classes_run_in_order(self):
        order = []

        def post(name):
            class Base(eqx.Module):
                def __post_init__(self):
                    order.append(name)
                    parent = getattr(super(), "__post_init__", None)
                    if parent is not None:
                        parent()

            return Base

        bases = tuple(post(name) for name in "abcd")

        class Last(*bases):
            def __post_init__(self):
                order.append("last")
                super().__post_init__()

        Last()
        assert order == ["last", "a", "b", "c", "d"]
