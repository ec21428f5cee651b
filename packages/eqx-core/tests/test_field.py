"""Fields: metadata, static ones, converters, and the warnings about values that do not belong in them."""

import dataclasses
import functools
import inspect
import typing
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core as eqx

STATIC_ARRAY = "A JAX array is being set as static!"
NOT_IN_INIT = r"Using `field\(init=False\)`"


def test_metadata_holds_what_was_asked_for_and_nothing_else():
    assert dict(eqx.field().metadata) == {}
    assert dict(eqx.field(static=False, converter=None).metadata) == {}
    assert dict(eqx.field(static=True).metadata) == {"static": True}
    assert dict(eqx.field(converter=int).metadata) == {"converter": int}
    assert dict(eqx.field(static=True, metadata={"a": 1}).metadata) == {"a": 1, "static": True}


def test_the_metadata_given_is_copied():
    given = {"a": 1}
    eqx.field(static=True, converter=int, metadata=given)
    assert given == {"a": 1}


@pytest.mark.parametrize("key", ["static", "converter"])
def test_metadata_must_not_hold_our_keys(key):
    with pytest.raises(ValueError, match=rf"`field\(metadata=\.\.\.\)` must not hold the key '{key}'.*`field\({key}="):
        eqx.field(metadata={key: True})


def test_other_arguments_are_those_of_dataclasses():
    declared = eqx.field(default=3, repr=False, kw_only=True)
    assert (declared.default, declared.repr, declared.kw_only) == (3, False, True)
    with pytest.raises(TypeError):
        eqx.field(unknown=1)
    with pytest.raises(ValueError, match="both default and default_factory"):
        eqx.field(default=1, default_factory=int)


def test_static_field_is_deprecated():
    with pytest.warns(DeprecationWarning, match="deprecated") as caught:
        declared = eqx.static_field(default=1)
    assert caught[0].filename == __file__
    assert (dict(declared.metadata), declared.default) == ({"static": True}, 1)


def test_only_the_metadata_counts():
    class A(eqx.Module):
        a: Any = dataclasses.field(metadata={"static": True})
        b: Any = dataclasses.field(metadata={"converter": float, "other": 1})

    made = A("text", 1)
    assert jtu.tree_leaves(made) == [1.0]
    assert type(made.b) is float


class TestConverter:
    def test_it_runs_on_arguments_and_on_defaults(self):
        class A(eqx.Module):
            a: float = eqx.field(converter=float, default=1)
            b: tuple = eqx.field(converter=tuple, default_factory=list)

        assert (A().a, A().b) == (1.0, ())
        assert type(A().a) is type(A(2).a) is float

    def test_it_runs_on_what_a_custom_init_assigns_or_leaves_at_the_default(self):
        class A(eqx.Module):
            a: Any = eqx.field(converter=float)
            b: Any = eqx.field(converter=float, default=2)

            def __init__(self):
                self.a = 1
                assert type(self.a) is int

        assert [type(leaf) for leaf in jtu.tree_leaves(A())] == [float, float]

    def test_it_runs_once_after_post_init(self):
        seen = []

        def convert(x):
            seen.append(x)
            return -x

        class A(eqx.Module):
            a: int = eqx.field(converter=convert)

            def __post_init__(self):
                seen.append("post")
                self.a = self.a + 1

        assert A(1).a == -2
        assert seen == ["post", 2]

    def test_it_does_not_run_again_on_a_copy(self):
        calls = []

        class A(eqx.Module):
            a: Any = eqx.field(converter=lambda x: calls.append(x) or x)

        a = A(1)
        jtu.tree_map(lambda x: x, a)
        eqx.tree_at(lambda t: t.a, a, 5)
        jax.jit(lambda x: x)(a)
        assert calls == [1]

    def test_it_runs_whatever_init_the_class_has_got_since(self):
        class A(eqx.Module):
            a: Any = eqx.field(converter=float)

            def __post_init__(self):
                pass

        def init(self, a, b):
            self.a = a + b

        A.__post_init__ = lambda self: None
        assert type(A(1).a) is float
        A.__init__ = init
        assert (A(1, 2).a, type(A(1, 2).a)) == (3.0, float)

    def test_it_runs_for_a_class_whose_init_comes_from_a_sibling(self):
        class Fields(eqx.Module):
            a: Any = eqx.field(converter=float)

        class Init(eqx.Module):
            a: Any

            def __init__(self, a):
                self.a = a

        class PlainInit:
            def __init__(self, a):
                self.a = a

        class A(Init, Fields):
            a: Any = eqx.field(converter=float)

        class B(PlainInit, Fields):
            pass

        assert type(A(1).a) is type(B(1).a) is float

    def test_its_error_is_passed_on(self):
        class A(eqx.Module):
            a: Any = eqx.field(converter=int)

        with pytest.raises(ValueError, match="invalid literal"):
            A("no number")

    def test_all_converters_run_before_any_warning(self):
        events = []

        class A(eqx.Module):
            a: Any = eqx.field(static=True)
            b: Any = eqx.field(converter=lambda x: events.append("convert") or x)

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda *args: events.append("warn")
            A(np.ones(1), 1)
        assert events == ["convert", "warn"]

    def test_it_may_mend_what_would_be_warned_of(self):
        class A(eqx.Module):
            a: Any = eqx.field(static=True, converter=lambda x: tuple(x.tolist()))

        assert A(np.arange(3)).a == (0, 1, 2)

    def test_it_cannot_set_a_property(self):
        class A(eqx.Module):
            a: Any = eqx.field(converter=float)

            def __init__(self):
                pass

        class B(A):
            @property
            def a(self):
                return 1

        with pytest.raises(AttributeError, match="a"):
            B()

    def test_it_may_give_a_module_or_refuse_under_jit_like_any_function(self):
        class A(eqx.Module):
            a: Any = eqx.field(converter=jnp.asarray)

        out = jax.jit(lambda x: A(x))(2.0)
        assert isinstance(out.a, jax.Array)
        assert jax.vmap(A)(np.ones((3, 2), np.float32)).a.shape == (3, 2)

    def test_a_subclass_may_redeclare_the_field_without_it(self):
        class A(eqx.Module):
            a: Any = eqx.field(converter=float)

        class B(A):
            a: Any

        class C(A):
            b: Any = 1

        assert type(B(1).a) is int
        assert type(C(1).a) is float


def _typed(x: int) -> float:
    return float(x)


def _typed_in_a_string(x: "np.ndarray") -> float:
    return 0.0


def _typed_by_nobody_knows_what(x: "Missing") -> float:  # noqa: F821
    return 0.0


class _Callable:
    def __call__(self, x: bytes) -> bytes:
        return x


@pytest.mark.parametrize(
    ("converter", "expected"),
    [
        (_typed, int),
        (_typed_in_a_string, np.ndarray),
        (functools.partial(_typed_in_a_string), np.ndarray),
        (_Callable(), bytes),
        (_typed_by_nobody_knows_what, Any),
        (lambda x: x, Any),
        (lambda: 0, Any),
        (str, Any),
        (tuple, Any),
    ],
)
def test_init_expects_what_the_converter_does(converter, expected):
    class A(eqx.Module):
        a: float = eqx.field(converter=converter)
        b: int = 0

    assert A.__init__.__annotations__ == {"a": expected, "b": int, "return": None}


def test_init_does_not_expect_text_where_the_converter_is_jaxs_own():
    class A(eqx.Module):
        a: jax.Array = eqx.field(converter=jnp.asarray)

    assert not isinstance(A.__init__.__annotations__["a"], str)
    assert typing.get_type_hints(A.__init__)["return"] is type(None)
    assert list(inspect.signature(A).parameters) == ["a"]


@pytest.mark.parametrize(
    "value",
    [
        np.ones(2),
        np.float32(1),
        jnp.ones(2),
        jr.key(0),
        [np.ones(2)],
        {"k": (1, jnp.ones(2))},
    ],
    ids=repr,
)
def test_a_static_array_is_warned_of_by_its_path(value):
    class A(eqx.Module):
        a: Any = eqx.field(static=True)

    path = jtu.keystr(jtu.tree_flatten_with_path(value)[0][-1][0])
    with pytest.warns(UserWarning, match=STATIC_ARRAY) as caught:
        A(value)
    (warning,) = caught
    assert f"`{A.__qualname__}.a{path}` holds an array of shape" in str(warning.message)
    assert warning.filename == __file__


def test_a_static_array_is_warned_of_wherever_it_comes_from():
    class A(eqx.Module):
        a: Any = eqx.field(static=True, default_factory=lambda: np.ones(2))

    class B(A):
        def __init__(self):
            self.a = jnp.ones(2)

    class C(A):
        b: Any = eqx.field(converter=float, default=1)

    for cls in (A, B, C):
        with pytest.warns(UserWarning, match=STATIC_ARRAY) as caught:
            cls()
        assert caught[0].filename == __file__


def test_an_array_in_a_static_module_is_warned_of():
    class A(eqx.Module):
        a: Any

    class B(eqx.Module):
        b: Any = eqx.field(static=True)

    with pytest.warns(UserWarning, match=r"B\.b\.a` holds"):
        B(A(jnp.ones(2)))
    with pytest.warns(UserWarning, match=STATIC_ARRAY):
        jax.jit(lambda x: B(x).b)(1.0)


@pytest.mark.parametrize(
    "value", [1, 1.0, "text", None, (1, (2.0,)), [1], {"a": 1}, {1}, jnp.float32, jax.nn.relu, len]
)
def test_other_static_values_are_silent(value):
    class A(eqx.Module):
        a: Any = eqx.field(static=True)

    assert A(value).a is value


def test_being_static_is_inherited_with_the_field():
    class A(eqx.Module):
        a: Any = eqx.field(static=True)

    class B(A):
        b: Any

    class C(A):
        a: Any

    assert jtu.tree_leaves(B(1, 2)) == [2]
    assert jtu.tree_leaves(C(1)) == [1]


@pytest.mark.parametrize("value", [1.0, 1j, jnp.ones(2), np.ones(2), np.float32(1), [1, {"a": 2.0}]], ids=repr)
def test_floats_in_a_field_that_is_not_in_init_are_warned_of(value):
    class A(eqx.Module):
        a: Any = eqx.field(init=False)

        def __post_init__(self):
            self.a = value

    with pytest.warns(UserWarning, match=rf"{NOT_IN_INIT} on `.*A\.a` can lead to surprising behaviour") as caught:
        A()
    assert caught[0].filename == __file__


@pytest.mark.parametrize("value", [True, 1, "text", None, np.arange(2), jnp.arange(2), (1, False), jnp.tanh])
def test_other_values_in_a_field_that_is_not_in_init_are_silent(value):
    class A(eqx.Module):
        a: Any = eqx.field(init=False)

        def __post_init__(self):
            self.a = value

    assert A().a is value


def test_a_static_float_that_is_not_in_init_is_like_any_other():
    class A(eqx.Module):
        a: Any = eqx.field(init=False, default=1)
        b: Any = eqx.field(init=False, default_factory=list)

    assert (A().a, A().b) == (1, [])
    assert jtu.tree_leaves(A()) == [1]
    with pytest.raises(TypeError):
        A(1)
