"""The generated `__init__`, and assignment while an `__init__` runs."""

import abc
import copy
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest
from hypothesis import given, strategies as st

import eqx_core as eqx


def leaves(module):
    return [(jtu.keystr(path), leaf) for path, leaf in jtu.tree_flatten_with_path(module)[0]]


def module_of(source, name):
    """Return a new module made from `source`."""
    module = types.ModuleType(name)
    module.eqx = eqx
    sys.modules[name] = module
    exec(compile(source, f"<{name}>", "exec"), vars(module))
    return module


@given(
    fields=st.lists(
        st.tuples(st.sampled_from([None, 0, "factory"]), st.booleans(), st.booleans()),
        max_size=6,
    ),
    order=st.randoms(),
)
def test_it_takes_the_arguments_that_a_dataclass_takes(fields, order):
    def declare(make_field):
        body: dict[str, Any] = {"__annotations__": {}}
        for index, (default, kw_only, init) in enumerate(fields):
            kwargs: dict[str, Any] = {"kw_only": kw_only, "init": init or default is None}
            if default == "factory":
                kwargs["default_factory"] = list
            elif default is not None:
                kwargs["default"] = default
            body[f"f{index}"] = make_field(**kwargs)
            body["__annotations__"][f"f{index}"] = int
        return body

    plain = type("A", (), declare(dataclasses.field))
    try:
        theirs = dataclasses.dataclass(plain)
    except TypeError as error:
        with pytest.raises(TypeError, match=str(error)):
            type(eqx.Module)("A", (eqx.Module,), declare(eqx.field))
        return
    ours = type(eqx.Module)("A", (eqx.Module,), declare(eqx.field))
    mine, yours = inspect.signature(ours), inspect.signature(theirs)
    assert [(p.name, p.kind, repr(p.default), p.annotation) for p in mine.parameters.values()] == [
        (p.name, p.kind, repr(p.default), p.annotation) for p in yours.parameters.values()
    ]
    kwargs = {name: index for index, name in enumerate(yours.parameters)}
    names = list(kwargs)
    order.shuffle(names)
    shuffled = {name: kwargs[name] for name in names}
    assert dataclasses.asdict(ours(**shuffled)) == dataclasses.asdict(theirs(**shuffled))


def test_any_name_can_be_given_as_a_keyword():
    class A(eqx.Module):
        cls: Any
        self: Any
        args: Any
        make: Any
        instance: Any = 5

    assert leaves(A(cls=1, self=2, args=3, make=4)) == [
        (".cls", 1),
        (".self", 2),
        (".args", 3),
        (".make", 4),
        (".instance", 5),
    ]


def test_it_returns_nothing_as_any_init():
    class A(eqx.Module):
        def __init__(self):
            return 1

    with pytest.raises(TypeError, match=r"A\.__init__` must return None; got 1\. Leave out the `return`"):
        A()


def test_annotations_that_are_text_can_be_evaluated():
    module = module_of(
        """
from __future__ import annotations
import typing as t
import dataclasses as dc
from dataclasses import InitVar as OnlyInInit

class A(eqx.Module):
    a: int
    later: Later
    only: OnlyInInit[int]
    shared: t.ClassVar[int] = 1
    _: dc.KW_ONLY
    b: t.Any = 2

    def __post_init__(self, only):
        self.a = self.a + only

class Later:
    pass
""",
        "eqx_core_text_annotations",
    )
    assert str(inspect.signature(module.A)) == (
        "(a: 'int', later: 'Later', only: 'OnlyInInit[int]', *, b: 't.Any' = 2) -> None"
    )
    hints = typing.get_type_hints(module.A.__init__)
    assert (hints["a"], hints["later"], hints["b"]) == (int, module.Later, Any)
    assert leaves(module.A(1, None, 2)) == [(".a", 3), (".b", 2)]
    assert set(vars(module)) >= {"A", "Later"}
    assert "make" not in vars(module)


def test_it_belongs_to_its_class():
    class A(eqx.Module):
        a: int

    assert A.__init__.__module__ == __name__
    assert A.__init__.__qualname__ == f"{A.__qualname__}.__init__"
    assert type(A.__init__) is types.FunctionType


def test_a_class_may_set_its_own_signature():
    class A(eqx.Module):
        a: int

    A.__signature__ = inspect.Signature([])
    assert str(inspect.signature(A)) == "()"
    assert str(inspect.signature(type(eqx.Module)))


class TestFunctionsAsDefaults:
    """A function in the body of a class is a method, unless the name is annotated."""

    @pytest.mark.parametrize("function", [len, lambda x: x, jax.nn.relu, jax.jit(jnp.tanh)])
    def test_they_are_values(self, function):
        class A(eqx.Module):
            f: Callable = function
            g: Callable = eqx.field(static=True, default=function)

        class B(A):
            def __init__(self):
                pass

        class C(A):
            h: Callable = eqx.field(init=False, default=function)

        for made in (A(), B(), C()):
            assert made.f is made.g is function
            again = jtu.tree_map(lambda x: x, made)
            assert again.f is again.g is function
            assert jtu.tree_structure(again) == jtu.tree_structure(made)
        assert leaves(B()) == [(".f", function)]
        assert leaves(C()) == [(".f", function), (".h", function)]
        assert A.f is function

    def test_they_can_be_overridden(self):
        class A(eqx.Module):
            f: Callable = len

        class B(A):
            def f(self):
                return "method"

        class C(A):
            f: Callable = max

        assert A(sum).f([1, 2]) == 3
        assert B(sum).f([1, 2]) == 3
        assert C().f(1, 2) == 2

    def test_a_method_of_a_base_is_the_default_of_a_field_as_with_dataclasses(self):
        class A(eqx.Module):
            def f(self):
                return 1

        class B(A):
            f: Callable

        assert B(len).f is len
        assert B().f is A.f
        assert leaves(B()) == [(".f", A.f)]


class TestDefaultsLeftAlone:
    """What a custom `__init__` does not assign."""

    def test_a_default_is_a_leaf_like_any_other(self):
        class A(eqx.Module):
            a: Any = 1
            b: Any = eqx.field(static=True, default="b")
            c: Any = eqx.field(default=jnp.tanh)

            def __init__(self):
                pass

        a = A()
        assert leaves(a) == [(".a", 1), (".c", jnp.tanh)]
        assert eqx.tree_at(lambda t: t.a, a, 5).a == 5
        assert jax.tree.map(lambda x: x, a) == a
        assert jtu.tree_structure(a) == jtu.tree_structure(jtu.tree_map(lambda x: x, a))

    def test_a_default_factory_is_not_called(self):
        class A(eqx.Module):
            a: Any = eqx.field(default_factory=list)

            def __init__(self):
                pass

        with pytest.raises(TypeError, match="Field 'a' was not initialized"):
            A()

    def test_every_missing_field_is_found(self):
        class A(eqx.Module):
            a: Any
            b: Any = eqx.field(converter=float)

            def __init__(self, which):
                setattr(self, which, 1)

        with pytest.raises(TypeError, match="Field 'b' was not initialized"):
            A("a")
        with pytest.raises(TypeError, match="Field 'a' was not initialized"):
            A("b")


def test_a_getattr_of_the_user_makes_no_leaves():
    class A(eqx.Module):
        a: Any
        b: Any

        def __init__(self):
            self.b = 1

        def __getattr__(self, name):
            if name == "a":
                return 7
            raise AttributeError(name)

    a = A()
    assert (a.a, leaves(a)) == (7, [(".b", 1)])
    again = jtu.tree_map(lambda x: x + 1, a)
    assert (again.a, again.b) == (7, 2)
    assert jtu.tree_structure(again) == jtu.tree_structure(a)


def test_a_delegating_getattr_works():
    class A(eqx.Module):
        inner: Any
        n: int = eqx.field(static=True, default=1)

        def __getattr__(self, name):
            return getattr(self.inner, name)

    a = A(A(jnp.ones(3)))
    assert a.shape == (3,)
    assert jax.jit(lambda a: a)(a).shape == (3,)


def test_a_getattribute_of_the_user_is_not_asked_for_leaves():
    class A(eqx.Module):
        a: Any

        def __getattribute__(self, name):
            return "hidden" if name == "a" else super().__getattribute__(name)

    assert A(1).a == "hidden"
    assert leaves(A(1)) == [(".a", 1)]


def test_a_setattr_of_the_user_is_called():
    seen = []

    class A(eqx.Module):
        a: int

        def __setattr__(self, name, value):
            seen.append(name)
            super().__setattr__(name, value + 1)

    class B(A):
        b: int

        def __init__(self, b):
            super().__init__(b)
            self.b = b

    assert A(1).a == 2
    assert leaves(B(1)) == [(".a", 2), (".b", 2)]
    assert seen == ["a", "a", "b"]


class TestOtherDataclasses:
    def test_a_plain_dataclass_gives_its_fields(self):
        @dataclasses.dataclass
        class Plain:
            a: int

        class First(Plain, eqx.Module):
            b: int = 2

        class Second(eqx.Module, Plain):
            b: int

        assert leaves(First(1)) == [(".a", 1), (".b", 2)]
        assert leaves(Second(1, 2)) == [(".a", 1), (".b", 2)]

    def test_a_frozen_dataclass_is_refused_by_dataclasses(self):
        @dataclasses.dataclass(frozen=True)
        class Plain:
            a: int

        with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass from a frozen one"):

            class A(eqx.Module, Plain):
                pass

    def test_decorating_a_module_once_more_does_no_harm(self):
        @dataclasses.dataclass
        class A(eqx.Module):
            a: int
            b: int = 2

        assert leaves(A(1)) == [(".a", 1), (".b", 2)]
        assert jtu.tree_map(lambda x: x + 1, A(1)) == A(2, 3)

    def test_class_variables_and_arguments_of_init_alone_are_no_leaves(self):
        class A(eqx.Module):
            a: int
            shared: ClassVar[int] = 1
            only: InitVar[int] = 2
            _: KW_ONLY
            b: int = 3

            def __post_init__(self, only):
                self.a = self.a * only

        assert leaves(A(1, 5, b=4)) == [(".a", 5), (".b", 4)]
        assert [f.name for f in dataclasses.fields(A)] == ["a", "b"]

    def test_a_class_variable_may_replace_a_field(self):
        class A(eqx.Module):
            a: int
            b: int = 2

        class B(A):
            a: ClassVar[int] = 5

        assert str(inspect.signature(B)) == "(b: int = 2) -> None"
        assert leaves(B()) == [(".b", 2)]
        assert B().a == 5


class TestCheckInit:
    def test_it_sees_converted_values(self):
        class A(eqx.Module):
            a: Any = eqx.field(converter=float)

            def __check_init__(self):
                assert type(self.a) is float

        A(1)

    def test_each_class_contributes_its_own_in_a_diamond(self):
        seen = []

        def check(name):
            return lambda self: seen.append(name)

        class A(eqx.Module):
            __check_init__ = check("A")

        class B(A):
            __check_init__ = check("B")

        class Mixin:
            __check_init__ = check("Mixin")

        class C(A):
            pass

        class D(B, C, Mixin):
            __check_init__ = check("D")

        D()
        assert seen == ["D", "B", "A", "Mixin"]

    def test_it_may_be_replaced_later(self):
        seen = []

        class A(eqx.Module):
            pass

        class B(A):
            pass

        A.__check_init__ = lambda self: seen.append("first")
        B()
        A.__check_init__ = lambda self: seen.append("second")
        A()
        B()
        assert seen == ["first", "second", "second"]

    def test_it_does_not_run_if_init_fails(self):
        class A(eqx.Module):
            a: Any

            def __init__(self):
                raise KeyError

            def __check_init__(self):
                raise AssertionError

        with pytest.raises(KeyError):
            A()


class TestNew:
    def test_what_it_returns_is_judged_by_its_type_alone(self):
        class Meta(type(eqx.Module)):
            def __instancecheck__(cls, instance):
                return True

        class A(eqx.Module, metaclass=Meta):
            a: int

            def __new__(cls, a):
                return super().__new__(cls) if a else "other"

        assert A(0) == "other"
        assert A(1).a == 1

    def test_it_may_return_one_instance_again(self):
        class A(eqx.Module):
            depth: int

            def __new__(cls, depth):
                if "only" not in vars(cls):
                    cls.only = super().__new__(cls)
                return cls.only

            def __init__(self, depth):
                self.depth = depth
                if depth:
                    A(depth - 1)

        assert A(3) is A(2)
        assert A.only.depth == 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            A.only.depth = 1

    def test_an_exception_may_be_a_module(self):
        class Failure(eqx.Module, RuntimeError):
            code: int

        doubled = jtu.tree_map(lambda x: x * 2, Failure(4))
        with pytest.raises(RuntimeError) as caught:
            raise doubled
        assert caught.value.code == 8


class TestInitSubclass:
    def test_it_may_document_the_class(self):
        class A(eqx.Module):
            def __init_subclass__(cls):
                assert cls.__doc__ is None
                cls.__doc__ = "From the base."

        class B(A):
            pass

        assert B.__doc__ == "From the base."

    def test_no_docstring_is_made_up(self):
        class A(eqx.Module):
            a: int

        assert A.__doc__ is None
        assert inspect.getdoc(A) == inspect.getdoc(eqx.Module)

    def test_it_may_give_a_field_its_default(self):
        class A(eqx.Module):
            def __init_subclass__(cls):
                cls.b = 3

        class B(A):
            a: int
            b: int

        assert leaves(B(1)) == [(".a", 1), (".b", 3)]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="copy.replace came with Python 3.13")
def test_copy_replace_runs_the_constructor():
    class A(eqx.Module):
        a: Any = eqx.field(converter=float)
        b: Any = 2

    assert leaves(copy.replace(A(1), a=3)) == [(".a", 3.0), (".b", 2)]
    assert type(copy.replace(A(1), a=3).a) is float


def test_assignment_ends_with_init_however_deep():
    class A(eqx.Module):
        a: int
        log: Any = eqx.field(static=True, default=None)

        def set(self, value):
            self.a = value

        def __init__(self, inner=True):
            self.set(1)
            if inner:
                other = A(inner=False)
                with pytest.raises(dataclasses.FrozenInstanceError):
                    other.set(3)
            self.set(2)

    a = A()
    assert a.a == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.set(3)


def test_the_attributes_of_a_wrapper_may_be_assigned():
    class A(eqx.Module):
        a: Any

        def __init__(self, a):
            self.a = a
            self.__name__ = "name"
            self.__doc__ = "doc"

    a = A(1.0)
    for again in (a, jtu.tree_map(lambda x: x, a), jax.jit(lambda x: x)(a), jax.vmap(lambda x: x)(A(jnp.ones(2)))):
        assert (again.__name__, again.__doc__) == ("name", "doc")
    assert A.__doc__ is None


def test_abstract_methods_count_as_abc_says():
    class A(eqx.Module):
        @property
        @abc.abstractmethod
        def p(self): ...

        @abc.abstractmethod
        @jax.jit
        def j(self): ...

        @classmethod
        @abc.abstractmethod
        def c(cls): ...

        @abc.abstractmethod
        def m(self): ...

    assert A.__abstractmethods__ == {"p", "j", "c", "m"}
    with pytest.raises(TypeError, match="abstract methods"):
        A()
