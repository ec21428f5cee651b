"""Instance <-> leaves: laws over random Modules, then what the structure remembers."""

import copy
import dataclasses
import enum
import functools
import gc
import pickle
import subprocess
import sys
import threading
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core as eqx

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Leafy(eqx.Module):
    a: Any
    b: Any = None
    c: Any = ()


class Both(eqx.Module):
    a: Any
    s: Any = eqx.field(static=True, default=0)
    b: Any = None
    t: Any = eqx.field(static=True, default=None)


class StaticOnly(eqx.Module):
    s: Any = eqx.field(static=True)


class Empty(eqx.Module):
    pass


class Slotted(eqx.Module):
    __slots__ = ("a",)
    a: Any
    s: Any = eqx.field(static=True)

    def __init__(self, a, s=0):
        self.a, self.s = a, s


class Whole(eqx.Module):
    a: Any
    p: Any = eqx.field(static=True)
    q: Any = None

    def __init__(self, a):
        self.a = a


class Partly(Whole):
    """Has a value of its own for one field alone."""

    @property
    def p(self):
        return "from the class"

    def q(self):
        return "a method"


class Named(eqx.Module):
    a: Any

    @property
    def __wrapped__(self):
        return named

    def method(self):
        return self.a


def named(x: int) -> int:
    """Be a name."""
    return x


statics = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats(allow_nan=True, width=16)
    | st.sampled_from(["a", "b", Colour.RED, Colour.BLUE, jnp.float32, np.dtype("int8"), len, named]),
    lambda inner: (
        st.tuples(inner, inner)
        | st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["k", 1]), inner, max_size=2)
        | st.frozensets(st.integers(0, 2), max_size=2)
    ),
    max_leaves=4,
)
scalars = st.none() | st.integers(-2, 2) | st.booleans() | st.floats(allow_nan=False, width=16) | st.just("text")


def _containers(inner):
    return (
        st.builds(Leafy, inner, inner, inner)
        | st.builds(Both, inner, statics, inner, statics)
        | st.builds(Slotted, inner, statics)
        | st.builds(Partly, inner)
        | st.builds(Named, inner)
        | st.builds(lambda x: eqx.module_update_wrapper(Named(x)), inner)
        | st.builds(lambda x: Named(x).method, inner)
        | st.builds(eqx.Partial, st.just(named), inner, k=inner)
        | st.builds(StaticOnly, statics)
        | st.builds(Empty)
        | st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2)
    )


modules = st.recursive(scalars, _containers, max_leaves=6)
"""Trees of all kinds of Modules, with equal ones often enough."""


@given(modules)
def test_flattening_and_unflattening_is_the_identity(tree):
    leaves, treedef = jtu.tree_flatten(tree)
    again = jtu.tree_unflatten(treedef, leaves)
    assert again == tree
    assert type(again) is type(tree)
    leaves_again, treedef_again = jtu.tree_flatten(again)
    assert treedef_again == treedef
    assert hash(treedef_again) == hash(treedef)
    assert all(a is b for a, b in zip(leaves, leaves_again, strict=True))
    with_path, treedef_with_path = jtu.tree_flatten_with_path(tree)
    assert treedef_with_path == treedef
    assert all(a is b for (_, a), b in zip(with_path, leaves, strict=True))


@given(modules)
def test_pickling_and_copying_is_the_identity(tree):
    for again in (pickle.loads(pickle.dumps(tree)), copy.copy(tree)):
        assert jtu.tree_structure(again) == jtu.tree_structure(tree)
        assert again == tree


@given(modules, modules, modules)
def test_equality_is_an_equivalence_and_hashes_agree(a, b, c):
    assert a == a
    assert (a == b) == (b == a)
    assert not (a == b and b == c) or a == c
    if isinstance(a, eqx.Module) and a == b:
        assert jtu.tree_structure(a) == jtu.tree_structure(b)
        try:
            hashed = hash(a)
        except TypeError:
            return
        assert hash(b) == hashed


@given(
    modules.filter(lambda x: isinstance(x, eqx.Module)),
    st.sampled_from([None, object(), jax.ShapeDtypeStruct((2,), jnp.float32), "text", [], Empty()]),
)
def test_anything_can_be_a_child(tree, child):
    leaves, treedef = jtu.tree_flatten(tree)
    filled = jtu.tree_unflatten(treedef, [child] * len(leaves))
    assert type(filled) is type(tree)
    assert all(x is child for x in treedef.flatten_up_to(filled))


@given(st.lists(statics, min_size=2, max_size=4))
def test_structures_are_equal_just_if_the_static_values_are(values):
    structures = [jtu.tree_structure(StaticOnly(value)) for value in values]
    keys = [eqx.internal.typed_key(value) for value in values]
    for treedef, key in zip(structures, keys, strict=True):
        assert [treedef == other for other in structures] == [key == other for other in keys]


def test_keys_are_names():
    both = Both(Leafy(1, [2]), "s", 3)
    paths = [jtu.keystr(path) for path, _ in jtu.tree_flatten_with_path(both)[0]]
    assert paths == [".a.a", ".a.b[0]", ".b"]
    assert jtu.tree_flatten_with_path(both)[0][2][0] == (jtu.GetAttrKey("b"),)


def test_keys_skip_what_has_no_value():
    (pair,) = jtu.tree_flatten_with_path(Partly(1))[0]
    assert pair == ((jtu.GetAttrKey("a"),), 1)


class TestReplacedFields:
    """A property or a class attribute that stands for a field."""

    def test_they_are_read_from_the_class(self):
        partly = Partly(1)
        assert jtu.tree_leaves(partly) == [1]
        again = jtu.tree_map(lambda x: x + 1, partly)
        assert (again.a, again.p, again.q()) == (2, "from the class", "a method")
        assert set(vars(again)) == {"a"}

    @pytest.mark.parametrize("make", [Partly, lambda x: eqx.module_update_wrapper(Named(x)), Slotted])
    def test_the_structure_is_stable(self, make):
        module = make(jnp.array(1.0))
        treedef = jtu.tree_structure(module)
        for _ in range(2):
            module = jtu.tree_map(lambda x: x, module)
            assert jtu.tree_structure(module) == treedef
        out, _ = jax.lax.scan(lambda m, _: (jtu.tree_map(lambda x: x + 1, m), None), module, None, length=2)
        assert out.a.item() == 3.0
        assert jtu.tree_structure(jax.jit(lambda m: m)(module)) == treedef
        assert jtu.tree_structure(jax.lax.cond(True, lambda m: m, lambda m: m, module)) == treedef

    def test_an_abstract_init_may_leave_fields_to_properties(self):
        class Base(eqx.Module):
            x: Any
            n: Any = eqx.field(static=True)

            def __init__(self, x):
                self.x = x

        class A(Base):
            n = "class attribute"

        class B(Base):
            @property
            def n(self):
                return "property"

        for cls, answer in ((A, "class attribute"), (B, "property")):
            again = jax.jit(lambda m: m)(cls(1.0))
            assert again.n == answer
            assert jtu.tree_structure(again) == jtu.tree_structure(cls(2.0))
        assert jtu.tree_structure(A(1.0)) != jtu.tree_structure(B(1.0))

    def test_a_property_in_the_same_body_stands_for_the_field_too(self):
        class A(eqx.Module):
            a: Any
            p: Any

            def __init__(self):
                self.a = 1

            @property
            def p(self):
                return self.a + 1

        assert jtu.tree_leaves(A()) == [1]
        assert jtu.tree_map(lambda x: x * 5, A()).p == 6

    def test_a_value_of_its_own_comes_first(self):
        class Base(eqx.Module):
            x: Any

        class A(Base):
            x = "class attribute"

        assert jtu.tree_leaves(A(1)) == [1]
        assert jtu.tree_map(lambda x: x + 1, A(1)).x == 2

    def test_an_instance_in_its_init_can_be_flattened(self):
        seen = []

        class A(eqx.Module):
            a: Any
            s: Any = eqx.field(static=True)
            b: Any

            def __init__(self):
                self.a = 1
                seen.append(jtu.tree_leaves(self))
                twin = jtu.tree_map(lambda x: x, self)
                assert not hasattr(twin, "b")
                self.s, self.b = "s", 2
                seen.append(jtu.tree_leaves(self))

        A()
        assert seen == [[1], [1, 2]]


class TestExtraAttributes:
    def test_they_are_dropped(self):
        leafy = Leafy(1)
        object.__setattr__(leafy, "extra", 2)
        assert not hasattr(jtu.tree_map(lambda x: x, leafy), "extra")
        assert jtu.tree_structure(leafy) == jtu.tree_structure(Leafy(1))

    def test_the_name_of_a_generic_is_no_difference(self):
        class A(eqx.Module, Generic[T]):
            """Documented."""

            x: T

        assert jtu.tree_structure(A[int](1)) == jtu.tree_structure(A(1))
        assert jtu.tree_map(lambda x: x, A[int](1)).__doc__ == "Documented."
        assert A[int](1) == A[str](1)

    def test_attributes_of_a_wrapper_are_part_of_the_structure(self):
        wrapped = eqx.module_update_wrapper(Named(1))
        assert jtu.tree_structure(wrapped) != jtu.tree_structure(Named(1))
        assert jtu.tree_structure(wrapped) == jtu.tree_structure(eqx.module_update_wrapper(Named(2)))
        assert jtu.tree_structure(Named(1)) == jtu.tree_structure(jtu.tree_map(lambda x: x, Named(2)))

    def test_what_object_setattr_changes_is_seen(self):
        both = Both(1, "s")
        object.__setattr__(both, "s", "t")
        assert jtu.tree_structure(both) == jtu.tree_structure(Both(1, "t"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (0, False),
        ((1,), (True,)),
        ((1, (2, 3)), (1, (2, 3.0))),
        ((0.0,), (-0.0,)),
        ([1], [1.0]),
        ([1], (1,)),
        ({"a": 1}, {"a": True}),
        ({1}, {True}),
        ({1: "a"}, {True: "a"}),
        (np.float32(1), 1.0),
        ("1", 1),
        (None, False),
        (np.dtype("float32"), "float32"),
        (jnp.float32, np.float32),
        (Colour.RED, 1),
        (Leafy(1), Leafy(1.0)),
        (1 + 0j, 1.0),
        (complex(0.0, 0.0), complex(0.0, -0.0)),
        (slice(1), slice(True)),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore:A JAX array")
def test_static_values_of_other_types_are_other_values(one, other):
    assert jtu.tree_structure(StaticOnly(one)) != jtu.tree_structure(StaticOnly(other))
    for value in (one, other):
        assert jtu.tree_structure(StaticOnly(value)) == jtu.tree_structure(StaticOnly(copy.deepcopy(value)))
    assert (StaticOnly(one) == StaticOnly(other)) is False


def test_two_names_of_a_dtype_are_one_static_value():
    """Layers are given `jnp.float32`, and take over the dtype of an array, which equals it."""
    one, other = StaticOnly(jnp.float32), StaticOnly(jnp.zeros(1, jnp.float32).dtype)
    assert jtu.tree_structure(one) == jtu.tree_structure(other)
    assert jtu.tree_structure(one) != jtu.tree_structure(StaticOnly(jnp.dtype("float16")))
    assert eqx.tree_equal(one, other) is True
    assert one == other
    assert hash(one) == hash(other)


def test_jit_tells_static_values_apart_and_traces_once_for_each():
    traces = []

    @jax.jit
    def f(m):
        traces.append(m.s)
        return m.a * 0 + (10.0 if m.s is True else 20.0 if isinstance(m.s, float) else 30.0)

    for _ in range(2):
        for value, expected in ((1, 30.0), (True, 10.0), (1.0, 20.0), (-0.0, 20.0), (0.0, 20.0), ([1, {"k": 2}], 30.0)):
            assert f(Both(jnp.ones(()), copy.deepcopy(value))).item() == expected
    assert len(traces) == 6


def test_nan_is_the_same_static_value_each_time():
    traces = []

    @jax.jit
    def f(m):
        traces.append(m)
        return m.a

    for nan in (float("nan"), float("nan"), np.nan):
        f(Both(1.0, nan))
        f(Both(1.0, (nan, 1)))
    assert len(traces) == 2


def test_the_structure_does_not_depend_on_what_other_instances_hold():
    class A(eqx.Module):
        s: Any = eqx.field(static=True)
        w: Any = 1

        @property
        def __wrapped__(self):
            return named

    a, b = A("s"), A("s")
    object.__setattr__(b, "s", (1, 2))
    before = jtu.tree_structure(a)
    A(1.5)
    A((1, 2))
    assert jtu.tree_structure(a) == before
    assert jtu.tree_structure(b) == jtu.tree_structure(A((1, 2)))
    A([1])
    eqx.module_update_wrapper(a)
    assert jtu.tree_structure(a) == before
    assert jtu.tree_structure(A("s")) == before
    assert jtu.tree_unflatten(before, [3]).w == 3


def test_a_pickle_gives_the_same_structure_in_a_process_that_has_made_none():
    script = f"""
import pickle, sys
import jax.tree_util as jtu
import eqx_core as eqx

class A(eqx.Module):
    s: object = eqx.field(static=True)

sys.modules["elsewhere"] = sys.modules["__main__"]
A.__module__ = "elsewhere"
loaded = pickle.loads({_pickle_of_elsewhere()!r})
before = jtu.tree_structure(loaded)
made = A((1, 2.0))
assert jtu.tree_structure(loaded) == before == jtu.tree_structure(made), (before, jtu.tree_structure(made))
assert jtu.tree_structure(A((True, 2.0))) != before
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _pickle_of_elsewhere():
    module = type(sys)("elsewhere")
    module.eqx = eqx
    sys.modules["elsewhere"] = module
    exec("class A(eqx.Module):\n    s: object = eqx.field(static=True)", vars(module))
    return pickle.dumps(module.A((1, 2.0)))


def test_first_flattening_in_several_threads():
    for _ in range(10):

        class A(eqx.Module):
            a: Any
            s: Any = eqx.field(static=True, default=(1, 2))

        class B(A):
            b: Any = 1

        barrier = threading.Barrier(4)
        results = []

        def work(b=B(1), barrier=barrier, results=results):  # noqa: B008
            barrier.wait()
            results.append(jtu.tree_map(lambda x: x + 1, b).a)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [2] * 4


def test_statics_that_are_themselves_modules_are_compared_by_structure_and_leaves():
    assert jtu.tree_structure(StaticOnly(Leafy(1))) == jtu.tree_structure(StaticOnly(Leafy(1)))
    assert jtu.tree_structure(StaticOnly(Leafy(1))) != jtu.tree_structure(StaticOnly(Leafy(2)))
    assert jtu.tree_structure(StaticOnly(Leafy(1).__class__)) == jtu.tree_structure(StaticOnly(Leafy))
    assert hash(StaticOnly({"a": [1]})) == hash(StaticOnly({"a": [1]}))


def test_instances_go_when_nothing_holds_them():
    import weakref

    leafy = Leafy(jnp.ones(2), (1, 2))
    references = [weakref.ref(leafy), weakref.ref(jtu.tree_map(lambda x: x, leafy))]
    jtu.tree_flatten(leafy)
    del leafy
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_container_that_answers_false_is_flattened():
    class A(eqx.Module):
        x: Any

        def __len__(self):
            return 0

        def __iter__(self):
            return iter(())

    assert jtu.tree_leaves(A(A(1))) == [1]
    assert jtu.tree_map(lambda x: x, A(A(1))).x.x == 1


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_any_number_of_fields(count):
    names = [f"f{i}" for i in range(count)]
    namespace = {"__annotations__": dict.fromkeys(names, Any)}
    cls = type(eqx.Module)("Many", (eqx.Module,), namespace)
    made = cls(*range(count))
    assert jtu.tree_leaves(made) == list(range(count))
    assert jtu.tree_map(lambda x: x * 2, made) == cls(*range(0, 2 * count, 2))
    assert [field.name for field in dataclasses.fields(cls)] == names


def test_names_beginning_with_underscores_are_kept():
    class A(eqx.Module):
        _a: int
        __b: int  # mangled by Python

        def total(self):
            return self._a + self.__b

    a = A(1, 2)
    assert [jtu.keystr(path) for path, _ in jtu.tree_flatten_with_path(a)[0]] == ["._a", "._A__b"]
    assert jtu.tree_map(lambda x: x * 2, a).total() == 6


def test_a_partial_of_a_class_is_a_static_value():
    make = functools.partial(Leafy, b=1)
    assert jtu.tree_structure(StaticOnly(make)) == jtu.tree_structure(StaticOnly(make))
    assert StaticOnly(make).s(2) == Leafy(2, 1)
