"""Methods looked up on instances and classes, however they were written."""

import contextlib
import copy
import doctest
import functools
import inspect
import pickle
import pydoc
import sys
import types
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

import eqx_core as eqx
from eqx_core.internal import BoundMethod

T = TypeVar("T")


def traced(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Decorator:
    """A decorator written as a class, as one would for a plain class."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *args):
        return self.function(*args)

    def __get__(self, instance, owner=None):
        return self if instance is None else types.MethodType(self, instance)


class Scale(eqx.Module):
    by: Any

    def plain(self, x):
        """Multiply."""
        return self.by * x

    @traced
    def wrapped(self, x):
        return self.by * x

    @jax.jit
    def jitted(self, x):
        return self.by * x

    @functools.partial(jax.jit, static_argnames="times")
    def jitted_with_options(self, x, *, times=1):
        return self.by * x * times

    @functools.lru_cache  # noqa: B019
    def cached(self, x):
        return self.by * x

    @Decorator
    def decorated(self, x):
        return self.by * x

    renamed = plain
    anonymous = lambda self, x: self.by * x  # noqa: E731


NAMES = ["plain", "wrapped", "jitted", "jitted_with_options", "cached", "decorated", "renamed", "anonymous"]


class Child(Scale):
    def plain(self, x):
        return super().plain(x) + 1

    def decorated(self, x):
        return super().decorated(x) + 1

    def jitted(self, x):
        return super().jitted(x) + 1


@pytest.mark.parametrize("name", NAMES)
class TestHoweverItIsWritten:
    def test_it_is_bound_as_a_tree(self, name):
        bound = getattr(Scale(2.0), name)
        assert type(bound) is BoundMethod
        assert jtu.tree_leaves(bound) == [2.0]
        assert float(bound(3.0)) == 6.0
        assert callable(bound)

    def test_on_the_class_it_is_itself(self, name):
        raw = getattr(Scale, name)
        assert raw is getattr(Scale, name)
        assert not isinstance(raw, eqx.Module)
        assert getattr(Scale(1.0), name).__func__ is raw
        assert float(raw(Scale(2.0), 3.0)) == 6.0

    def test_it_is_equal_to_itself_with_the_same_hash(self, name):
        one, same, other = Scale(2.0), Scale(2.0), Scale(3.0)
        assert getattr(one, name) == getattr(same, name)
        assert hash(getattr(one, name)) == hash(getattr(same, name))
        assert getattr(one, name) != getattr(other, name)
        assert getattr(one, name) != one

    def test_instances_that_differ_in_values_share_a_trace(self, name):
        traces = []

        @jax.jit
        def f(method, x):
            traces.append(name)
            return method(x)

        method = "plain" if name == "cached" else name  # A cache would keep tracers.
        assert f(getattr(Scale(jnp.array(2.0)), method), 3.0).item() == 6.0
        assert f(getattr(Scale(jnp.array(4.0)), method), 3.0).item() == 12.0
        assert len(traces) == 1

    def test_it_tells_where_it_comes_from(self, name):
        bound, raw = getattr(Scale(1.0), name), getattr(Scale, name)
        for attribute in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
            assert getattr(bound, attribute) == getattr(raw, attribute)
        assert inspect.signature(bound) == inspect.signature(types.MethodType(raw, Scale(1.0)))
        assert bound.__wrapped__ == types.MethodType(raw, bound.__self__)


def test_methods_of_parents_are_reached_through_super():
    child = Child(2.0)
    assert (child.plain(1.0), float(child.jitted(1.0)), child.decorated(1.0)) == (3.0, 3.0, 3.0)
    assert type(super(Child, child).plain) is BoundMethod


def test_methods_go_through_transformations():
    scale = Scale(jnp.array(2.0))
    assert jax.jit(scale.plain)(3.0).item() == 6.0
    assert jax.jit(Scale(2.0).plain)(3.0).item() == 6.0
    assert jax.vmap(scale.plain)(jnp.arange(2.0)).tolist() == [0.0, 2.0]
    assert jax.grad(lambda method: method(3.0))(scale.plain).__self__.by.item() == 3.0
    out, _ = jax.lax.scan(lambda method, x: (method, method(x)), scale.plain, jnp.arange(3.0))
    assert out == scale.plain
    assert jax.eval_shape(scale.plain, 1.0).shape == ()
    assert jax.lax.map(scale.plain, jnp.arange(2.0)).tolist() == [0.0, 2.0]


def test_methods_compare_by_the_structure_of_their_instance_too():
    assert Scale(1).plain != Scale(1).wrapped
    assert Scale(1).plain != Child(1).plain
    assert jtu.tree_structure(Scale(1).plain) == jtu.tree_structure(Scale(2).plain)
    assert jtu.tree_structure(Scale([1]).plain) != jtu.tree_structure(Scale(2).plain)


def test_methods_take_any_keyword():
    class A(eqx.Module):
        def f(this, **kwargs):
            return kwargs

    assert A().f(self=1, instance=2) == {"self": 1, "instance": 2}


def test_methods_can_be_stored_elsewhere():
    scale = Scale(jnp.array(2.0))

    class A(eqx.Module):
        f: Any
        g: Any = None

    a = A(scale.plain, [scale.wrapped])
    assert len(jtu.tree_leaves(a)) == 2
    doubled = jtu.tree_map(lambda x: x * 2, a)
    assert (doubled.f(1.0).item(), doubled.g[0](1.0).item()) == (4.0, 4.0)


def test_functions_added_later_are_methods():
    class A(eqx.Module):
        by: Any

    class B(A):
        pass

    def f(self, x):
        return self.by * x

    A.f = f
    A.g = jax.jit(f)
    A.h = Decorator(f)
    for cls in (A, B):
        assert cls.f is f
        for bound in (cls(2.0).f, cls(2.0).g, cls(2.0).h):
            assert type(bound) is BoundMethod
            assert float(bound(3.0)) == 6.0
    del A.f
    assert not hasattr(B(1), "f")


class TestUntouched:
    def test_what_is_not_bound_to_the_instance(self):
        other = Scale(5.0)

        class A(eqx.Module):
            x: Any
            of_another = other.plain
            of_another_plainly = types.MethodType(Scale.plain, other)
            builtin = len
            an_instance = other
            nested_class = Scale
            number = 3

            @classmethod
            def of_class(cls):
                return cls

            @staticmethod
            def of_nothing(x):
                return x

            @property
            def computed(self):
                return self.x

        a = A(1)
        assert a.of_another(1.0) == A.of_another(1.0) == 5.0
        assert type(a.of_another_plainly) is types.MethodType
        assert a.of_another_plainly(1.0) == 5.0
        assert a.builtin([1]) == 1
        assert a.an_instance is other
        assert a.nested_class is Scale
        assert type(a.of_class) is types.MethodType
        assert (a.of_class(), A.of_class(), a.of_nothing(4), A.of_nothing(4), a.computed) == (A, A, 4, 4, 1)
        assert isinstance(inspect.getattr_static(A, "of_class"), classmethod)

    def test_dunder_methods(self):
        class A(eqx.Module):
            x: Any

            def __call__(self):
                return self.x

            def __len__(self):
                return 2

        assert type(A(1).__call__) is types.MethodType
        assert type(A(1).__init__) is types.MethodType
        assert (A(1)(), len(A(1))) == (1, 2)

    def test_partialmethod_and_singledispatchmethod(self):
        class A(eqx.Module):
            x: Any

            def f(self, y, z=0):
                return self.x + y + z

            with_two = functools.partialmethod(f, 2)

            @functools.singledispatchmethod
            def kind(self, y):
                return "other"

            @kind.register
            def _(self, y: int):
                return "int"

        assert A(1).with_two(z=3) == 6
        assert (A(1).kind(2), A(1).kind("text")) == ("int", "other")
        A.kind.register(str, lambda self, y: "str")
        assert A(1).kind("text") == "str"

    def test_other_descriptors(self):
        log = []

        class Described:
            def __set_name__(self, owner, name):
                log.append((owner.__name__, name))

            def __get__(self, instance, owner=None):
                return "class" if instance is None else instance.x

        class Writable(Described):
            def __set__(self, instance, value):
                log.append(value)

        class A(eqx.Module):
            x: Any
            d = Described()
            w = Writable()

        assert log == [("A", "d"), ("A", "w")]
        assert (A.d, A(3).d, A.w, A(3).w) == ("class", 3, "class", 3)

    def test_generators_coroutines_and_context_managers(self):
        class A(eqx.Module):
            x: Any

            @contextlib.contextmanager
            def manage(self):
                yield self.x

            def generate(self):
                yield self.x

            async def wait(self):
                return self.x

        with A(1).manage() as value:
            assert value == 1
        assert list(A(2).generate()) == [2]
        coroutine = A(3).wait()
        with pytest.raises(StopIteration, match="3"):
            coroutine.send(None)


class Plain:
    def f(self):
        return "Plain"

    @jax.jit
    def g(self):
        return self.x

    @staticmethod
    def s():
        return "static"

    @property
    def p(self):
        return "property"


class WithPlain(Plain, eqx.Module):
    x: Any


class TestPlainBases:
    def test_their_methods_are_bound_as_trees(self):
        instance = WithPlain(2.0)
        assert type(instance.f) is type(instance.g) is BoundMethod
        assert (instance.f(), float(instance.g()), instance.s(), instance.p) == ("Plain", 2.0, "static", "property")
        assert WithPlain.f is Plain.f
        assert instance.f == WithPlain(2.0).f
        assert pickle.loads(pickle.dumps(instance.f)) == instance.f

    def test_a_method_replaced_on_the_base_is_replaced_here(self, monkeypatch):
        monkeypatch.setattr(Plain, "f", lambda self: "patched")
        assert WithPlain(1).f() == "patched"

    def test_the_order_of_inheritance_is_that_of_python(self):
        class Own(WithPlain):
            def f(self):
                return super().f() + "!"

        class Late:
            def f(self):
                return "Late"

        class A(Late, Own):
            pass

        class B(Own, Late):
            pass

        assert (Own(1).f(), A(1).f(), B(1).f()) == ("Plain!", "Late", "Plain!")
        assert type(A(1).f) is BoundMethod

    def test_generic_is_none_of_them(self):
        class A(eqx.Module, Generic[T]):
            x: T

        assert not any(name in vars(A) for name in vars(Generic) if not name.startswith("__"))


def test_bound_methods_can_be_copied_and_pickled():
    bound = Scale(jnp.array(2.0)).plain
    for again in (copy.copy(bound), copy.deepcopy(bound), pickle.loads(pickle.dumps(bound))):
        assert type(again) is BoundMethod
        assert jtu.tree_structure(again) == jtu.tree_structure(bound)
        assert again(1.0).item() == 2.0
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(Scale(2.0).plain, protocol)) == Scale(2.0).plain
        assert pickle.loads(pickle.dumps(BoundMethod, protocol)) is BoundMethod


def test_bound_methods_show_function_and_instance():
    assert repr(Scale(2).plain) == "BoundMethod(__func__=<function Scale.plain>, __self__=Scale(by=2))"
    assert BoundMethod.__module__.startswith("eqx_core")
    assert inspect.getdoc(BoundMethod).startswith("A method of a Module")


def test_a_bound_method_lacks_what_its_function_lacks():
    with pytest.raises(AttributeError, match="nothing"):
        Scale(1).plain.nothing  # noqa: B018
    assert Scale(1).cached.cache_info().hits >= 0


class Documented(eqx.Module):
    """A class.

    >>> 1
    1
    """

    x: int = 0

    def method(self):
        """
        >>> 2
        2
        """

    @property
    def computed(self):
        """
        >>> 3
        3
        """

    @classmethod
    def of_class(cls):
        """
        >>> 4
        4
        """

    @staticmethod
    def of_nothing():
        """
        >>> 5
        5
        """

    @jax.jit
    def jitted(self):
        """
        >>> 6
        6
        """

    @functools.cached_property
    def kept(self):
        """
        >>> 7
        7
        """


def test_doctests_are_found():
    tests = doctest.DocTestFinder().find(Documented, module=sys.modules[__name__])
    found = {test.name.partition(".")[2]: test.examples[0].source.strip() for test in tests if test.examples}
    expected = {"": "1", "method": "2", "computed": "3", "of_class": "4", "of_nothing": "5", "jitted": "6"}
    assert found.items() >= expected.items()
    assert found.items() - expected.items() <= {("kept", "7")}


def test_help_shows_methods():
    text = pydoc.render_doc(Scale, renderer=pydoc.plaintext)
    assert "plain(self, x)" in text
    assert "Multiply." in text
    assert dict(inspect.getmembers(Scale, inspect.isfunction))["plain"] is Scale.plain
    assert inspect.getsource(Scale.plain) in inspect.getsource(Scale)
    assert inspect.getsource(Scale(1).plain).strip().startswith("def plain")


class Kept(eqx.Module):
    x: Any

    @functools.cached_property
    def double(self):
        """Twice."""
        return self.x * 2


def test_cached_properties_are_not_part_of_the_tree():
    kept = Kept(jnp.array(1.0))
    before = jtu.tree_structure(kept)
    assert kept.double is kept.double
    assert jtu.tree_structure(kept) == before
    assert len(jtu.tree_leaves(kept)) == 1
    assert inspect.getdoc(Kept.double) == "Twice."
    assert copy.copy(kept).double.item() == pickle.loads(pickle.dumps(kept)).double.item() == 2.0


def test_cached_properties_hold_no_tracer_after_any_transformation():
    kept = Kept(jnp.array(3.0))

    def f(x):
        return kept.double * x + jax.jit(lambda: kept.double)()

    assert jax.grad(f)(2.0).item() == 6.0
    assert jax.vmap(f)(jnp.ones(2)).tolist() == [12.0, 12.0]
    jax.make_jaxpr(f)(1.0)
    assert not isinstance(kept.double, jax.core.Tracer)
    assert kept.double.item() == 6.0


def test_what_stands_in_the_class_can_be_called_and_replaced_like_a_function():
    """As base classes do that wrap the methods of their subclasses."""

    class Doubling(eqx.Module):
        def __init_subclass__(cls, **kwargs):
            super().__init_subclass__(**kwargs)
            method = cls.__dict__["f"]

            @functools.wraps(method)
            def doubled(self, x):
                return 2 * method(self, x)

            cls.f = doubled

    class Adder(Doubling):
        y: jax.Array

        def f(self, x):
            """Add."""
            return x + self.y

    adder = Adder(jnp.array(3.0))
    assert adder.f(1.0) == 8.0
    assert jax.jit(lambda f: f(1.0))(adder.f) == 8.0
    assert (Adder.f.__name__, Adder.f.__doc__) == ("f", "Add.")
