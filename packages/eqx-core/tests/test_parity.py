"""One class body, built on Equinox and here: the same leaves, signatures, kinds of errors and order of events."""

import abc
import dataclasses
import functools
import inspect
import types
import warnings
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core

equinox = pytest.importorskip("equinox")
T = TypeVar("T")
CASES = {}


def case(build):
    CASES[build.__name__] = build
    return build


def paths(module):
    return [(jtu.keystr(path), leaf) for path, leaf in jtu.tree_flatten_with_path(module)[0]]


def stable(module):
    return jtu.tree_structure(module) == jtu.tree_structure(jtu.tree_map(lambda x: x, module))


def outcome(run):
    """Return what `run` returns, or the class of what it raises."""
    try:
        return run()
    except Exception as error:
        return type(error)


def warned(run):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return sorted({warning.category.__name__ for warning in caught})


@case
def fields_in_order(eqx):
    class A(eqx.Module):
        b: Any
        a: Any = eqx.field(static=True, default=1)
        c: Any = eqx.field(kw_only=True, default_factory=list)
        d: ClassVar[int] = 4
        e: dataclasses.InitVar[int] = 5

    class B(A):
        f: Any = 6
        b: Any

    return str(inspect.signature(A)), str(inspect.signature(B)), paths(B(1, c=[7])), dataclasses.fields(B)[0].name


@case
def init_from_the_first_module(eqx):
    class A(eqx.Module):
        a: Any = 1

        def __init__(self):
            pass

    class B(eqx.Module):
        b: Any = 2

    class Plain:
        def __init__(self):
            self.b = 3

    bases = [(A, B), (B, A), (Plain, B), (B, Plain), (Plain, A)]
    return [str(inspect.signature(type(eqx.Module)("C", pair, {}))) for pair in bases]


@case
def order_of_events(eqx):
    log = []

    def convert(x):
        log.append("convert")
        return x

    class A(eqx.Module):
        a: Any = eqx.field(converter=convert)

        def __post_init__(self):
            log.append("post")

        def __check_init__(self):
            log.append("check A")

    class B(A):
        b: Any = eqx.field(converter=convert, default=2)

        def __post_init__(self):
            super().__post_init__()
            log.append("post B")

        def __check_init__(self):
            log.append("check B")

    jtu.tree_map(lambda x: x, B(1))
    return log


@case
def annotations_of_init(eqx):
    def convert(x: bytes) -> int:
        return 1

    class A(eqx.Module):
        a: int = eqx.field(converter=convert)
        b: int = eqx.field(converter=str)
        c: int = eqx.field(converter=lambda: 0)
        d: int = 1

    return A.__init__.__annotations__


@case
def documentation_of_init(eqx):
    class A(eqx.Module):
        a: int

    A.__init__.__doc__ = "doc"

    class B(A):
        b: int

    return B.__init__.__doc__


@case
def warnings_by_kind(eqx):
    class Static(eqx.Module):
        a: Any = eqx.field(static=True)

    class Late(eqx.Module):
        a: Any
        b: Any = eqx.field(init=False)

        def __post_init__(self):
            self.b = self.a

    class Layer(eqx.Module):
        w: Any

        def __call__(self, x):
            return x

    class Holder(eqx.Module):
        f: Any

    def both_inits():
        class A(eqx.Module):
            def __init__(self):
                pass

            def __post_init__(self):
                pass

    runs = [lambda v=v: Static(v) for v in (1, np.ones(1), jnp.ones(1), [np.ones(1)], "a", np.float32(1), jnp.float32)]
    runs += [lambda v=v: Late(v) for v in (1, True, 1.0, np.ones(1), np.arange(1), [1.0], None, "a")]
    runs += [lambda v=v: Holder(jax.jit(v)) for v in (Layer(1.0), Layer(None), jnp.sin, Layer(jnp.ones(1)))]
    runs += [lambda: Holder([jax.vmap(Layer(1.0))]), lambda: Holder(Layer(1.0)), both_inits]
    return [warned(run) for run in runs]


@case
def errors_by_kind(eqx):
    class A(eqx.Module):
        x: Any

        def __init__(self, what="nothing"):
            if what == "other":
                self.y = 1
            elif what == "method":
                self.x = self.method
            elif what != "nothing":
                self.x = what

        def method(self):
            pass

    class Abstract(eqx.Module):
        x: eqx.AbstractVar[int]

    class AbstractClass(eqx.Module):
        x: eqx.AbstractClassVar[int]

    class AbstractMethod(eqx.Module):
        @abc.abstractmethod
        def f(self): ...

    class Declared(eqx.Module, is_abstract=True):
        pass

    def assign(name):
        return lambda: setattr(A(1), name, 2)

    def declare(annotation, **body):
        return lambda: type(eqx.Module)("B", (eqx.Module,), {"__annotations__": {"x": annotation}} | body)

    runs = [A, lambda: A("other"), lambda: A("method"), lambda: A(1, 2), assign("x"), assign("y"), assign("__name__")]
    runs += [
        Abstract,
        AbstractClass,
        AbstractMethod,
        Declared,
        lambda: A.register(int),
        lambda: hash(A([1, np.ones(2)])),
    ]
    runs += [
        declare(eqx.AbstractVar),
        declare(eqx.AbstractVar[int], x=1),
        declare(eqx.AbstractClassVar),
        declare(list, x=[]),
    ]
    runs += [lambda: eqx.field(metadata={"static": 1}), lambda: eqx.module_update_wrapper(A(1)), declare(int, x=1)]
    return [outcome(lambda run=run: (run(), None)[1]) for run in runs]


@case
def abstract_sets(eqx):
    class A(eqx.Module):
        x: eqx.AbstractVar[int]
        y: eqx.AbstractClassVar[int]

    class B(A):
        x: int

    class C(A):
        y: int

    class D(A):
        x: ClassVar[int]
        y: ClassVar[int]

    class E(A):
        x: eqx.AbstractClassVar[int]
        y: eqx.AbstractVar[int]

    class F(A):
        x = property(lambda self: 1)

        def y(self):
            pass

    class G(B, A):
        pass

    class H(B, C):
        pass

    class Mixin:
        x = 1

    class I(Mixin, A):  # noqa: E742
        pass

    class J(A, Mixin):
        pass

    return [(cls.__abstractvars__, cls.__abstractclassvars__) for cls in (A, B, C, D, E, F, G, H, I, J)]


@case
def abstract_again(eqx):
    class A(eqx.Module):
        x: int
        y: int

    class B(A):
        x: eqx.AbstractVar[int]

    class C(B):
        x: int

    return [[field.name for field in dataclasses.fields(cls)] for cls in (B, C)], paths(C(1, 2))


@case
def replaced_fields(eqx):
    class A(eqx.Module):
        x: Any
        n: Any = eqx.field(static=True)

        def __init__(self, x):
            self.x = x

    class B(A):
        n = "b"

    class C(A):
        @property
        def n(self):
            return "c"

    class D(A):
        def n(self):
            return "d"

    return [(paths(cls(1)), stable(cls(1)), stable(jax.jit(lambda m: m)(cls(1.0)))) for cls in (B, C, D)], D(1).n()


@case
def getattr_is_no_field(eqx):
    class A(eqx.Module):
        x: Any
        y: Any

        def __init__(self):
            self.y = 1

        def __getattr__(self, name):
            if name == "x":
                return 7
            raise AttributeError(name)

    return paths(A()), stable(A()), A().x


@case
def methods(eqx):
    class Plain:
        def inherited(self):
            return self.x

    class Decorator:
        def __init__(self, function):
            self.function = function

        def __call__(self, *args):
            return self.function(*args)

        def __get__(self, instance, owner):
            return self if instance is None else types.MethodType(self, instance)

    class A(eqx.Module, Plain):
        x: Any

        def plain(self):
            """Doc."""
            return self.x

        jitted = jax.jit(plain)
        cached = functools.lru_cache(plain)
        decorated = Decorator(plain)
        of_class = classmethod(lambda cls: 1)
        of_nothing = staticmethod(lambda: 1)
        computed = property(lambda self: 1)
        partial = functools.partialmethod(plain)

        def __call__(self):
            return 1

    names = [
        *[
            "inherited",
            "plain",
            "jitted",
            "cached",
            "decorated",
            "of_class",
            "of_nothing",
            "computed",
            "partial",
            "__call__",
        ]
    ]
    found = [type(getattr(A(1), name)).__name__ for name in names]
    bound = A(1).plain
    return found, paths(bound), bound == A(1).plain, bound == A(2).plain, hash(bound) == hash(A(1).plain), bound.__doc__


@case
def equality(eqx):
    class A(eqx.Module):
        x: Any
        n: Any = eqx.field(static=True, default=0)

    pairs = [
        (A(1), A(1)),
        (A(1), A(1.0)),
        (A(1), A(2)),
        (A(1), 1),
        (A(1, "a"), A(1, "b")),
        (A([1]), A((1,))),
        (A(np.ones(2)), A(np.ones(2))),
        (A(np.ones(2)), A(np.zeros(2))),
        (A(np.ones(2)), A(np.ones(3))),
        (A(jnp.ones(2)), A(jnp.ones(2))),
        (A(jnp.ones(2)), A(jnp.zeros(2))),
        (A(jnp.ones(2)), A(1)),
    ]
    return [(bool(a == b), isinstance(a == b, jax.Array), a != b) for a, b in pairs]


@case
def wrapper_attributes(eqx):
    class Wrapper(eqx.Module):
        fn: Any

        @property
        def __wrapped__(self):
            return self.fn

        def __call__(self, *args):
            return self.fn(*args)

    def function(x: int) -> str:
        """Doc."""
        return ""

    wrapped = eqx.module_update_wrapper(Wrapper(function))
    again = jtu.tree_map(lambda x: x, wrapped)
    names = ("__name__", "__doc__", "__qualname__", "__module__", "__annotations__")
    same = jtu.tree_structure(wrapped) == jtu.tree_structure(Wrapper(function))
    return [getattr(again, name) for name in names], stable(wrapped), same, str(inspect.signature(wrapped))


@case
def partials(eqx):
    partial = eqx.Partial(lambda *args, **kwargs: (args, kwargs), 1, a=2)
    return partial(3, b=4), outcome(lambda: partial(a=1)), [path for path, _ in paths(partial)], stable(partial)


@case
def class_keywords(eqx):
    seen = []

    class A(eqx.Module):
        def __init_subclass__(cls, tag=None, **kwargs):
            super().__init_subclass__(**kwargs)
            seen.append((tag, cls.__dict__.get("own")))

    class B(A, tag="b", strict=True):
        own = 1

    class C(A, strict=eqx.StrictConfig(force_abstact=True)):
        pass

    return seen, outcome(lambda: type(B()).__name__), outcome(C)


@case
def printing(eqx):
    class A(eqx.Module):
        x: Any
        n: Any = eqx.field(static=True, default=3)

        def method(self):
            pass

    shown = [A(1), A(jnp.ones(2), 4), A([A(None)]), A(1).method, eqx.Partial(len, 1)]
    return [repr(x).replace("eqx_core", "").replace("equinox", "") for x in shown]


@case
def plain_dataclasses(eqx):
    @dataclasses.dataclass
    class Plain:
        a: Any

    class A(eqx.Module, Plain):
        b: Any

    @dataclasses.dataclass
    class B(eqx.Module):
        a: Any
        b: Any = 2

    return (
        paths(A(1, 2)),
        paths(B(1)),
        stable(B(1)),
        dataclasses.asdict(A(B(1), [2])),
        paths(dataclasses.replace(A(1, 2), a=3)),
    )


@case
def generics(eqx):
    class A(eqx.Module, Generic[T]):
        x: T

    return paths(A[int](1)), A[int](1).__orig_class__ == A[int], bool(A[int](1).x == A(1).x)


@pytest.mark.parametrize("build", CASES.values(), ids=CASES)
def test_it_behaves_as_there(build):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert build(eqx_core) == build(equinox)
