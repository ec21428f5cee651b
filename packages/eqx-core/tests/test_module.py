"""Class creation and construction: contract of `Module` itself."""

import abc
import copy
import dataclasses
import functools
import gc
import inspect
import pickle
import threading
import weakref
from collections.abc import Hashable
from dataclasses import InitVar
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core as eqx

T = TypeVar("T")


class Affine(eqx.Module):
    weight: Any
    bias: Any
    name: str = eqx.field(static=True, default="affine")

    def __call__(self, x):
        return self.weight * x + self.bias

    def shifted(self, x, by=0.0):
        """Apply to a shifted `x`."""
        return self(x + by)


def test_a_module_is_hashable_and_nothing_else():
    assert eqx.Module.__mro__ == (eqx.Module, Hashable, object)
    assert issubclass(type(eqx.Module), abc.ABCMeta)
    assert jtu.tree_leaves(eqx.Module()) == []


def test_the_generated_init_is_that_of_the_same_dataclass():
    def declare(decorate, base, field):
        class A(base):
            a: int
            b: list = field(default_factory=list)
            c: InitVar[int] = 3
            d: ClassVar[int] = 4
            e: str = field(default="e", kw_only=True)
            f: int = field(default=5, init=False)
            _: dataclasses.KW_ONLY
            g: float = 6.0

            def __post_init__(self, c):
                self.a = (self.a, c)

        return decorate(A)

    ours = declare(lambda cls: cls, eqx.Module, eqx.field)
    theirs = declare(dataclasses.dataclass, object, dataclasses.field)
    mine, yours = inspect.signature(ours), inspect.signature(theirs)
    assert list(mine.parameters) == list(yours.parameters)
    for name, parameter in yours.parameters.items():
        assert mine.parameters[name].kind == parameter.kind
        assert repr(mine.parameters[name].default) == repr(parameter.default)
    for args, kwargs in [((1,), {}), ((1, [2], 7), {"e": "x"}), ((), {"a": 0, "c": 1, "g": 2.0})]:
        assert dataclasses.asdict(ours(*args, **kwargs)) == dataclasses.asdict(theirs(*args, **kwargs))
    first, second = ours(1), ours(1)
    assert first.b is not second.b
    with pytest.raises(TypeError):
        ours()
    with pytest.raises(TypeError):
        ours(1, f=3)


def test_names_that_a_generator_might_use_itself_are_good_field_names():
    class Odd(eqx.Module):
        self: int
        id: int
        own: int
        instance: int
        node: int = 4
        cls: int = 5
        children: int = 6
        aux: int = eqx.field(static=True, default=7)
        type: int = eqx.field(static=True, default=8)

    odd = Odd(0, 1, 2, 3)
    again = jtu.tree_unflatten(jtu.tree_structure(odd), jtu.tree_leaves(odd))
    for it in (odd, again):
        assert list(dataclasses.asdict(it).values()) == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_a_field_without_default_must_not_follow_one_with():
    with pytest.raises(TypeError, match="non-default argument 'b' follows default argument 'a'"):

        class A(eqx.Module):
            a: int = 1
            b: int


def test_mutable_defaults_are_refused():
    with pytest.raises(ValueError, match="mutable default"):

        class A(eqx.Module):
            a: list = []  # noqa: RUF012


def test_a_custom_init_is_inherited_whole():
    class A(eqx.Module):
        a: int

        def __init__(self, twice):
            self.a = 2 * twice

    class B(A):
        b: int = 7

    assert B(3).a == 6
    assert B(3).b == 7
    assert B.__init__ is A.__init__
    with pytest.raises(TypeError):
        B(3, b=1)


def test_the_first_module_among_the_bases_decides_on_the_init():
    class A(eqx.Module):
        a: int

        def __init__(self):
            self.a = 1

    class B(eqx.Module):
        b: int = 0

    class C(B, A):
        pass

    class D(A, B):
        pass

    assert list(inspect.signature(C).parameters) == ["a", "b"]
    assert list(inspect.signature(D).parameters) == []


def test_a_plain_mixin_with_an_init_counts_as_custom():
    class Mixin:
        def __init__(self, x):
            self.x = x

    class A(Mixin, eqx.Module):
        x: int

    class B(eqx.Module, Mixin):
        x: int

    assert A(5).x == 5
    assert A.__init__ is Mixin.__init__
    assert list(inspect.signature(B).parameters) == ["x"]


def test_an_init_may_be_replaced_and_its_docstring_is_inherited():
    class A(eqx.Module):
        a: int

    A.__init__.__doc__ = "How to make an A."

    class B(A):
        b: int

    assert B.__init__.__doc__ == "How to make an A."
    original = A.__init__

    @functools.wraps(original)
    def checked(self, a):
        original(self, a + 1)

    A.__init__ = checked
    assert A(1).a == 2


def test_post_init_chains_cooperate_and_convert_once():
    calls = []

    def convert(x):
        calls.append(x)
        return x + 1

    class A(eqx.Module):
        x: int = eqx.field(converter=convert)

        def __post_init__(self):
            self.x = self.x * 10

    class B(A):
        def __post_init__(self):
            super().__post_init__()
            self.x = self.x + 5

    class C(A):
        def __post_init__(self):
            super().__post_init__()
            self.x = self.x + 3

    class D(B, C):
        pass

    assert D(1).x == 19
    assert calls == [18]


def test_a_post_init_that_nothing_calls_is_warned_of():
    class A(eqx.Module):
        a: int

        def __post_init__(self):
            pass

    with pytest.warns(UserWarning, match=r"__init__`\s+method and a\s+`__post_init__`") as caught:

        class B(A):
            def __init__(self):
                self.a = 1

    assert f"{__name__}.{B.__qualname__}" in str(caught[0].message)
    with pytest.warns(UserWarning, match="post_init"):

        class C(B):
            pass


def test_check_init_runs_for_each_class_on_a_frozen_instance():
    seen = []

    class A(eqx.Module):
        a: int

        def __check_init__(self):
            seen.append("A")
            with pytest.raises(dataclasses.FrozenInstanceError):
                self.a = 2

    class B(A):
        def __init__(self, a):
            self.a = a

        def __check_init__(self):
            seen.append("B")
            if self.a < 0:
                raise ValueError("negative")

    B(1)
    assert seen == ["B", "A"]
    with pytest.raises(ValueError, match="negative"):
        B(-1)
    assert seen == ["B", "A", "B"]
    b = B(1)
    seen.clear()
    jtu.tree_map(lambda x: -x, b)
    assert seen == []


def test_a_field_must_get_a_value():
    class A(eqx.Module):
        a: int
        b: int

        def __init__(self):
            self.a = 1

    with pytest.raises(TypeError, match=r"Field 'b' was not initialized\. Assign `self\.b` in .*A\.__init__`"):
        A()


def test_an_error_in_init_is_passed_on_and_leaves_nothing_open():
    made = []

    class A(eqx.Module):
        a: int

        def __init__(self):
            made.append(self)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        A()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made[0].a = 1


def test_instances_are_frozen():
    affine = Affine(1.0, 2.0)
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"cannot assign to field 'weight' of `Affine`.*tree_at"):
        affine.weight = 3.0
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'other'"):
        affine.other = 3.0
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"cannot delete field 'weight' of `Affine`.*tree_at"):
        del affine.weight
    with pytest.raises(dataclasses.FrozenInstanceError):
        affine.__init__(3.0, 4.0)
    assert affine == Affine(1.0, 2.0)
    object.__setattr__(affine, "weight", 5.0)
    assert affine.weight == 5.0


def test_only_fields_may_be_assigned_in_init():
    class A(eqx.Module):
        a: int

        def __init__(self):
            self.a = 0
            self.a = 1
            self.b = 2

    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'b'"):
        A()


def test_a_copy_made_in_init_is_frozen():
    class A(eqx.Module):
        a: int

        def __init__(self):
            self.a = 1
            twin = jtu.tree_map(lambda x: x, self)
            with pytest.raises(dataclasses.FrozenInstanceError):
                twin.a = 2

    A()


def test_constructions_in_several_threads_do_not_meet():
    barrier = threading.Barrier(4)

    class A(eqx.Module):
        a: int
        inner: Any = None

        def __init__(self, a, depth=2):
            barrier.wait()
            self.a = a
            self.inner = A(a + 1, depth - 1) if depth else None
            self.a = a

    results = []
    threads = [threading.Thread(target=lambda i=i: results.append(A(i))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.inner.inner.a for r in results) == [2, 3, 4, 5]


def test_an_own_method_or_oneself_cannot_be_a_field():
    class A(eqx.Module):
        f: Any

        def __init__(self, wrap):
            self.f = wrap(self)

        def method(self):
            return 1

    for wrap in (
        lambda self: self.method,
        lambda self: [self.method],
        lambda self: {"key": (1, self.method)},
        lambda self: self.method.__wrapped__,
    ):
        with pytest.raises(ValueError, match=r"Cannot assign methods in __init__: `.*A\.f.*`method`"):
            A(wrap)
    with pytest.raises(ValueError, match=r"A\.f` must not be the instance itself"):
        A(lambda self: self)
    with pytest.raises(ValueError, match=r"A\.f\['k'\]` must not be the instance itself"):
        A(lambda self: {"k": self})
    other = A(lambda self: 1)
    assert A(lambda self: other.method).f() == 1


def test_an_own_method_cannot_travel_through_super_init():
    class A(eqx.Module):
        f: Any

    class B(A):
        def __init__(self):
            super().__init__(self.method)

        def method(self):
            pass

    with pytest.raises(ValueError, match="Cannot assign methods in __init__"):
        B()


def test_methods_may_be_called_in_init():
    class A(eqx.Module):
        a: int

        def __init__(self):
            self.set()

        def set(self):
            self.a = 1

    assert A().a == 1


def test_class_keywords_reach_init_subclass_before_all_else():
    class A(eqx.Module):
        tag: ClassVar[str] = ""

        def __init_subclass__(cls, tag="", **kwargs):
            super().__init_subclass__(**kwargs)
            cls.tag = tag + getattr(cls, "suffix", "")

    class B(A, tag="b", strict=True):
        suffix = "!"

    assert B.tag == "b!"


def test_abstract_classes_say_so():
    class A(eqx.Module, is_abstract=True):
        pass

    class B(A):
        pass

    class C(eqx.Module, strict=eqx.StrictConfig(force_abstact=True)):
        pass

    class D(eqx.Module, strict=eqx.StrictConfig(allow_anything=True)):
        pass

    class E(eqx.Module):
        @abc.abstractmethod
        def f(self):
            pass

    B()
    D()
    for cls in (A, C):
        with pytest.raises(TypeError, match=r"Cannot instantiate abstract class .*Use a subclass"):
            cls()
    with pytest.raises(TypeError, match="abstract method"):
        E()
    assert E.__abstractmethods__ == {"f"}


def test_there_are_no_virtual_subclasses():
    with pytest.raises(ValueError, match=r"`Affine\.register\(subclass=\.\.\.\)` is not possible"):
        Affine.register(int)


def test_the_metaclass_cooperates():
    class Meta(type(eqx.Module)):
        def __new__(mcs, name, bases, namespace, **kwargs):
            cls = super().__new__(mcs, name, bases, namespace, **kwargs)
            cls.seen = True
            return cls

        def __call__(cls, x):
            if x < 0:
                return Affine(x, x)
            return super().__call__(x)

        def __instancecheck__(cls, instance):
            return instance == "magic" or super().__instancecheck__(instance)

    class A(eqx.Module, metaclass=Meta):
        x: int

    assert A.seen
    assert A(1).x == 1
    assert type(A(-1)) is Affine
    assert isinstance("magic", A)
    assert isinstance(A(1), A)
    assert not isinstance(1, A)


def test_new_may_return_something_else():
    class A(eqx.Module):
        x: int

        def __new__(cls, x):
            return super().__new__(cls) if x else "nothing"

    assert A(1).x == 1
    assert A(0) == "nothing"


def test_class_attributes_may_be_reassigned():
    def g(self):
        return self.weight

    class A(Affine):
        pass

    A.shifted = g
    A.number = 3
    assert A.shifted is g
    assert A(4.0, 0.0).shifted() == 4.0
    assert type(A(4.0, 0.0).shifted) is type(Affine(1, 1).shifted)
    assert A.number == 3


def test_signatures_are_those_of_init_and_call():
    assert list(inspect.signature(Affine).parameters) == ["weight", "bias", "name"]
    assert list(inspect.signature(Affine(1, 2)).parameters) == ["x"]
    assert list(inspect.signature(Affine(1, 2).shifted).parameters) == ["x", "by"]


def test_generics_work_and_share_a_structure():
    class A(eqx.Module, Generic[T]):
        a: T

    class B(A[int]):
        b: int

    made = A[int](1)
    assert made.__orig_class__ == A[int]
    assert jtu.tree_structure(made) == jtu.tree_structure(A(1))
    assert B(1, 2).a == 1


def test_slots_are_leaves_like_any_field():
    class A(eqx.Module):
        __slots__ = ("x",)
        x: Any
        y: Any

        def __init__(self, x, y):
            self.x = x
            self.y = y

    a = A(1, jnp.array(2.0))
    doubled = jtu.tree_map(lambda v: v * 2, a)
    assert (doubled.x, doubled.y.item()) == (2, 4.0)
    assert jtu.tree_structure(doubled) == jtu.tree_structure(a)
    again = pickle.loads(pickle.dumps(_SlotPoint(1, 2)))
    assert (again.x, again.y) == (1, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.x = 2


class _SlotPoint(eqx.Module):
    __slots__ = ("x",)
    x: Any
    y: Any

    def __init__(self, x, y):
        self.x, self.y = x, y


def test_equality_is_that_of_trees():
    a = Affine(jnp.array(1.0), 2)
    assert (a == Affine(jnp.array(1.0), 2)).item() is True
    assert (a == Affine(jnp.array(1.5), 2)).item() is False
    assert (Affine(1, 2) == Affine(1, 2)) is True
    assert (Affine(1, 2) == Affine(1, 2, "other")) is False
    assert (Affine(1, 2) == 1) is False
    assert Affine(1, 2) != Affine(1, 3)


def test_hashes_agree_with_equality_and_take_containers():
    assert hash(Affine(1, 2)) == hash(Affine(1, 2))
    assert hash(Affine([1, {"a": 2}], None)) == hash(Affine([1, {"a": 2}], None))
    with pytest.raises(TypeError, match=r"unhashable type: `Affine\.bias\[0\]` is of type `numpy.ndarray`.*partition"):
        hash(Affine(1, [np.zeros(2)]))


def test_the_static_half_of_a_model_is_a_static_argument():
    model = Affine({"w": jnp.ones(2), "f": jnp.tanh}, [1, None])
    static = jtu.tree_map(lambda x: None if eqx.is_array(x) else x, model)
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def f(static, x):
        traces.append(static)
        return static.weight["f"](x)

    for _ in range(2):
        assert f(jtu.tree_map(lambda x: x, static), 0.0).item() == 0.0
    assert len(traces) == 1


def test_copies_pickles_and_weak_references_work():
    a = Affine(jnp.arange(3.0), [np.ones(2), "text"])
    assert type(a.shifted)(Affine.shifted, a) == a.shifted
    for b in (pickle.loads(pickle.dumps(a)), copy.copy(a), copy.deepcopy(a)):
        assert jtu.tree_structure(a) == jtu.tree_structure(b)
        assert (a == b).item() is True
    bound = pickle.loads(pickle.dumps(a.shifted))
    assert (bound == a.shifted).item() is True
    reference = weakref.ref(a)
    del a
    gc.collect()
    assert reference() is None


def test_replace_runs_the_constructor():
    assert dataclasses.replace(Affine(1, 2), bias=3) == Affine(1, 3)
    assert dataclasses.fields(Affine(1, 2)) == dataclasses.fields(Affine)


def test_cached_properties_are_kept_but_never_with_a_tracer():
    calls = []

    class A(eqx.Module):
        x: Any

        @functools.cached_property
        def double(self):
            calls.append(1)
            return self.x * 2

    a = A(jnp.array(2.0))
    assert a.double is a.double
    assert len(calls) == 1
    doubled = jtu.tree_map(lambda x: x * 2, a)
    assert doubled.double.item() == 8.0
    fresh = A(jnp.array(3.0))
    assert jax.jit(lambda y: fresh.double + y)(1.0).item() == 7.0
    assert fresh.double.item() == 6.0
    assert jtu.tree_structure(a) == jtu.tree_structure(A(jnp.array(0.0)))


def test_methods_of_plain_base_classes_are_bound_as_trees_too():
    class Plain:
        def f(self):
            return "Plain"

    class Override(Plain):
        def f(self):
            return "Override"

    class A(Plain, eqx.Module):
        x: Any = 1

    class B(A, Override):
        pass

    assert jtu.tree_leaves(A().f) == [1]
    assert A().f() == "Plain"
    assert A.f is Plain.f
    assert B().f() == "Override"


def test_repr_is_the_pretty_printer():
    assert repr(Affine(jnp.ones(2), 1)) == "Affine(weight=f32[2], bias=1)"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8])
def test_modules_go_through_every_transformation(dtype):
    affine = Affine(jnp.ones(3, dtype), jnp.zeros(3, dtype))
    x = jnp.arange(3, dtype=dtype)
    expected = np.arange(3)
    assert np.array_equal(np.asarray(jax.jit(lambda f, x: f(x))(affine, x)).astype(int), expected)
    assert np.array_equal(np.asarray(jax.vmap(lambda f, x: f(x))(affine, x)).astype(int), expected)
    shapes = jax.eval_shape(lambda f: f, affine)
    assert type(shapes) is Affine
    assert shapes.weight == jax.ShapeDtypeStruct((3,), dtype)
    if jnp.issubdtype(dtype, jnp.inexact):
        grads = jax.grad(lambda f: f(x).sum())(affine)
        assert np.array_equal(np.asarray(grads.weight).astype(int), expected)


def test_a_module_is_a_carry_of_control_flow():
    affine = Affine(jnp.array(1.0), jnp.array(2.0))
    out, _ = jax.lax.scan(lambda f, _: (Affine(f.weight * 2, f.bias), None), affine, None, length=3)
    assert out.weight.item() == 8.0
    picked = jax.lax.cond(True, lambda f: f, lambda f: jtu.tree_map(jnp.negative, f), affine)
    assert (picked == affine).item()


def test_constructing_consumes_a_key_only_where_the_user_does():
    class Noise(eqx.Module):
        value: Any

        def __init__(self, key):
            self.value = jr.normal(key, (2,))

    assert (Noise(jr.key(0)) == Noise(jr.key(0))).item()
    stacked = jax.vmap(Noise)(jr.split(jr.key(0), 3))
    assert stacked.value.shape == (3, 2)


def test_a_list_changed_inside_a_transformation_is_a_copy():
    """Trap: a frozen Module holds a list that is not; a tracer put into it must not come out."""

    class A(eqx.Module):
        items: list

    a = A([jnp.array(1.0)])

    @jax.jit
    def f(a, x):
        a.items.append(x)
        return a

    out = f(a, 2.0)
    assert [item.item() for item in out.items] == [1.0, 2.0]
    assert [item.item() for item in a.items] == [1.0]
    jax.grad(lambda a: (a.items.append(1), a.items[0])[1])(a)
    assert [item.item() for item in a.items] == [1.0]
