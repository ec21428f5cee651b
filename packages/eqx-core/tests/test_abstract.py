"""Abstract attributes: what declares them, what fills them, and when a class that lacks them is refused."""

import abc
import dataclasses
import inspect
from dataclasses import InitVar
from typing import Any, ClassVar, Generic, TypeVar

import jax.tree_util as jtu
import pytest

import eqx_core as eqx
from eqx_core import AbstractClassVar, AbstractVar

T = TypeVar("T")


def abstract(cls):
    """Return the names that a class leaves abstract: of instance attributes, of class attributes."""
    assert type(cls.__abstractvars__) is type(cls.__abstractclassvars__) is frozenset
    return set(cls.__abstractvars__), set(cls.__abstractclassvars__)


class Base(eqx.Module):
    x: AbstractVar[int]
    y: AbstractClassVar[str]


def test_a_class_that_lacks_some_cannot_be_instantiated():
    class NoX(Base):
        y = "y"

    class NoY(Base):
        x: int

    class Own(eqx.Module):
        """Its `__init__` runs before the check."""

        b: AbstractVar[int]
        a: AbstractVar[int]

        def __init__(self, log):
            log.append("ran")

    assert abstract(Base) == ({"x"}, {"y"})
    with pytest.raises(TypeError, match=r"abstract class `.*Base` with abstract class attributes y\. Give each"):
        Base()
    with pytest.raises(TypeError, match=r"abstract class `.*NoX` with abstract attributes x\. Declare each"):
        NoX()
    with pytest.raises(TypeError, match="abstract class attributes y"):
        NoY(1)
    log = []
    with pytest.raises(TypeError, match=r"abstract attributes a, b\."):
        Own(log)
    assert log == ["ran"]


def test_they_are_no_fields_and_do_not_count_in_the_order_of_arguments():
    class A(eqx.Module):
        a: AbstractVar[int]
        b: int
        c: AbstractClassVar[int]

    class B(A):
        c = 1
        d: int
        a: int

    assert [f.name for f in dataclasses.fields(A)] == ["b"]
    assert str(inspect.signature(B)) == "(b: int, d: int, a: int) -> None"
    assert jtu.tree_leaves(B(1, 2, 3)) == [1, 2, 3]
    assert list(A.__annotations__) == ["a", "b", "c"]
    assert A.__annotations__["a"] == AbstractVar[int]


class TestFilling:
    """Of an instance attribute `x`."""

    def test_a_field_does(self):
        class A(Base):
            x: int
            y = "y"

        assert A(1).x == 1

    def test_an_argument_of_init_alone_does(self):
        class A(Base):
            x: InitVar[int]
            y = "y"

            def __post_init__(self, x):
                pass

        assert abstract(A) == (set(), set())

    @pytest.mark.parametrize("value", [property(lambda self: 1), lambda self: 1, 1, None])
    def test_a_property_a_method_and_a_value_do(self, value):
        class A(Base):
            x = value
            y = "y"

        A()
        assert abstract(A) == (set(), set())

    def test_a_class_variable_does_not(self):
        class A(Base):
            x: ClassVar[int]
            y: ClassVar[str]

        assert abstract(A) == ({"x"}, set())

    def test_what_a_base_has_does(self):
        class Mixin:
            x = 1

        class A(Mixin, Base):
            pass

        class B(Base, Mixin):
            pass

        assert abstract(A) == (set(), {"y"})
        assert abstract(B) == ({"x"}, {"y"})

    def test_a_field_of_the_first_base_wins(self):
        class Concrete(eqx.Module):
            x: int

        class A(Concrete, Base):
            y = "y"

        class B(Base, Concrete):
            y = "y"

        assert abstract(A) == (set(), set())
        assert A(1).x == 1
        assert abstract(B) == ({"x"}, set())

    def test_what_comes_later_does_not(self):
        class A(Base):
            pass

        A.y = "y"
        with pytest.raises(TypeError, match="abstract class attributes y"):
            A()


def test_init_subclass_may_fill():
    class A(eqx.Module):
        order: AbstractClassVar[int]
        step: AbstractVar[int]

        def __init_subclass__(cls, order=None, **kwargs):
            super().__init_subclass__(**kwargs)
            if order is not None:
                cls.order = order
                cls.step = property(lambda self: order + 1)

    class B(A, order=3):
        pass

    class C(A):
        pass

    assert (B().order, B().step) == (3, 4)
    assert abstract(C) == ({"step"}, {"order"})


def test_an_instance_annotation_fills_a_class_attribute():
    class A(eqx.Module):
        y: AbstractClassVar[int]

    class B(A):
        y: int

    assert B(1).y == 1


def test_an_abstract_class_attribute_stays_one():
    class A(eqx.Module):
        x: AbstractVar[int]

    class B(A):
        x: AbstractClassVar[int]

    class C(B):
        x: AbstractVar[int]

    assert abstract(A) == ({"x"}, set())
    assert abstract(B) == (set(), {"x"})
    assert abstract(C) == (set(), {"x"})


def test_a_field_may_become_abstract_again_and_keeps_its_place():
    class A(eqx.Module):
        x: int
        y: int

    class B(A):
        x: AbstractVar[int]

    class C(B):
        x: int

    assert abstract(B) == ({"x"}, set())
    assert [f.name for f in dataclasses.fields(B)] == ["x", "y"]
    with pytest.raises(TypeError, match="abstract attributes x"):
        B(1, 2)
    assert jtu.tree_leaves(C(1, 2)) == [1, 2]


def test_a_mixin_that_is_no_module_may_declare_them():
    class Mixin:
        x: AbstractVar[int]
        z: int

    class A(Mixin, eqx.Module):
        pass

    class B(A):
        x: int

    assert abstract(A) == ({"x"}, set())
    with pytest.raises(TypeError, match="abstract attributes x"):
        A()
    assert jtu.tree_leaves(B(1)) == [1]


def test_generic_ones_work():
    class A(eqx.Module, Generic[T]):
        x: AbstractVar[T]
        y: AbstractClassVar[list[T]]

    class B(A[int]):
        x: int
        y = []  # noqa: RUF012

    class C(A[int]):
        pass

    assert B(1).x == 1
    assert abstract(C) == ({"x"}, {"y"})


def test_they_go_together_with_abstract_methods():
    class A(eqx.Module):
        x: AbstractVar[int]

        @abc.abstractmethod
        def f(self): ...

    class B(A):
        x: int

    class C(B):
        def f(self):
            return self.x

    for cls in (A, B):
        with pytest.raises(TypeError, match="abstract method"):
            cls(1)
    assert C(1).f() == 1


def test_a_dunder_may_be_one():
    class A(eqx.Module):
        __call__: AbstractClassVar[Any]

    class B(A):
        def __call__(self):
            return 1

    with pytest.raises(TypeError, match="abstract class attributes __call__"):
        A()
    assert B()() == 1


def test_being_declared_abstract_is_not_inherited():
    class A(eqx.Module, is_abstract=True):
        a: int

    class B(A):
        pass

    assert B(1).a == 1
    assert abstract(A) == (set(), set())


@pytest.mark.parametrize("kind", [AbstractVar, AbstractClassVar])
class TestMisuse:
    def test_it_must_be_subscripted(self, kind):
        with pytest.raises(
            TypeError, match=rf"`{kind.__name__}` must not be unsubscripted\. Write `{kind.__name__}\[T"
        ):

            class A(eqx.Module):
                x: kind

    def test_it_takes_one_argument(self, kind):
        with pytest.raises(TypeError, match="Too many"):
            kind[int, str]

    @pytest.mark.parametrize("value", [1, None, eqx.field(), property(lambda self: 1)])
    def test_it_cannot_have_a_value(self, kind, value):
        with pytest.raises(TypeError, match=r"abstract attribute `.*A\.x` cannot have value .*Leave out the value"):

            class A(eqx.Module):
                x: kind[int] = value

    def test_it_may_stand_in_quotes(self, kind):
        class A(eqx.Module):
            x: f"{kind.__name__}[int]"
            y: f"eqx.{kind.__name__}[Unknown]"
            z: f" {kind.__name__}[ 'Unknown' ] "

        assert set.union(*abstract(A)) == {"x", "y", "z"}
        with pytest.raises(TypeError, match=rf"`eqx\.{kind.__name__}` must not be unsubscripted"):

            class B(eqx.Module):
                x: f"eqx.{kind.__name__}"

        with pytest.raises(TypeError, match="cannot have value 1"):

            class C(eqx.Module):
                x: f"{kind.__name__}[int]" = 1


def test_other_text_is_a_field():
    class Abstract(Generic[T]):
        pass

    class A(eqx.Module):
        a: "int"
        b: "Abstract[int]"
        c: "list[AbstractVar[int]]"
        d: "Unknown.AbstractThing[int]"  # noqa: F821

    assert [f.name for f in dataclasses.fields(A)] == ["a", "b", "c", "d"]
