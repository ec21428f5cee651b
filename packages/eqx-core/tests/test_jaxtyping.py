"""jaxtyping's import hook with beartype, on a package of Modules."""

import importlib
import inspect
import sys
import textwrap

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

import eqx_core as eqx

jaxtyping = pytest.importorskip("jaxtyping")
pytest.importorskip("beartype")

SOURCE = """
import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import eqx_core as eqx

T = TypeVar("T")


class Linear(eqx.Module):
    weight: Float[Array, "out in"]
    bias: Float[Array, "out"]
    size: int = eqx.field(static=True, default=3)

    def __call__(self, x: Float[Array, "in"]) -> Float[Array, "out"]:
        return self.weight @ x + self.bias

    def shift(self, by: int) -> int:
        return by

    @jax.jit
    def jitted(self, x: Float[Array, ""]) -> Float[Array, ""]:
        return x

    @classmethod
    def of_class(cls) -> int:
        return 3

    @property
    def computed(self) -> int:
        return 2


class Child(Linear):
    activation: Callable = jax.nn.relu


class Converted(eqx.Module):
    x: Array = eqx.field(converter=jnp.asarray)
    y: float = eqx.field(converter=float, default=1)
    z: tuple = eqx.field(converter=tuple, default=())


class Custom(eqx.Module):
    x: int

    def __init__(self, x: str):
        self.x = int(x)


class CustomChild(Custom):
    y: int = 1


class Interface(eqx.Module):
    x: eqx.AbstractVar[int]
    y: eqx.AbstractClassVar[int]


class Implementation(Interface):
    x: int
    y = 3


class OnlyInInit(eqx.Module):
    x: int
    by: dataclasses.InitVar[int]

    def __post_init__(self, by: int):
        self.x = self.x + by


class Holder(eqx.Module, Generic[T]):
    f: Callable
    x: Any = None


class Positive(eqx.Module):
    x: int

    def __check_init__(self):
        if self.x < 0:
            raise ValueError("negative")


class Keywords(eqx.Module):
    x: int
    _: dataclasses.KW_ONLY
    y: int = 1


def function(x: Float[Array, "a"], linear: Linear) -> int:
    return 1
"""


@pytest.fixture(scope="module", params=["evaluated", "in strings"])
def hooked(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hooked")
    name = f"hooked_{request.param.replace(' ', '_')}"
    future = "from __future__ import annotations\n" if request.param == "in strings" else ""
    (folder / f"{name}.py").write_text(future + textwrap.dedent(SOURCE))
    sys.path.insert(0, str(folder))
    with jaxtyping.install_import_hook(name, "beartype.beartype"):
        module = importlib.import_module(name)
    yield module
    sys.path.remove(str(folder))


@pytest.fixture
def linear(hooked):
    return hooked.Linear(jnp.ones((2, 3)), jnp.ones(2))


def refused():
    return pytest.raises(jaxtyping.TypeCheckError)


def test_arguments_of_the_generated_init_are_checked(hooked):
    with refused():
        hooked.Linear(jnp.ones((2, 3)), jnp.ones(3))
    with refused():
        hooked.Linear(jnp.ones((2, 3)), jnp.ones(2), "size")
    with refused():
        hooked.Child(jnp.ones((2, 3)), jnp.ones(3))
    with refused():
        hooked.Child(jnp.ones((2, 3)), jnp.ones(2), 3, "activation")
    with refused():
        hooked.Keywords(1, y="text")
    assert hooked.Child(jnp.ones((2, 3)), jnp.ones(2)).activation is jax.nn.relu
    assert hooked.Keywords(1, y=2).y == 2


def test_converters_take_what_they_take(hooked):
    made = hooked.Converted([1.0, 2.0], 1, [1])
    assert (made.x.tolist(), type(made.y), made.z) == ([1.0, 2.0], float, (1,))
    assert hooked.Converted(1.0).z == ()


def test_a_custom_init_is_checked_by_its_own_annotations(hooked):
    assert hooked.Custom("3").x == hooked.CustomChild("3").x == 3
    for cls in (hooked.Custom, hooked.CustomChild):
        with refused():
            cls(3)


def test_abstract_attributes_are_no_arguments(hooked):
    assert hooked.Implementation(1).x == 1
    with refused():
        hooked.Implementation("text")
    with pytest.raises(TypeError, match="abstract class attributes y"):
        hooked.Interface()


def test_post_init_and_check_init_run(hooked):
    assert hooked.OnlyInInit(1, 2).x == 3
    with refused():
        hooked.OnlyInInit(1, "text")
    with pytest.raises(ValueError, match="negative"):
        hooked.Positive(-1)


def test_methods_are_checked_and_are_callables(hooked, linear):
    assert linear(jnp.ones(3)).tolist() == [4.0, 4.0]
    assert linear.shift(1) == 1
    with refused():
        linear.shift("text")
    assert linear.jitted(jnp.array(1.0)).item() == 1.0
    assert (hooked.Linear.of_class(), linear.computed) == (3, 2)
    for callable_ in (linear.shift, linear, len, eqx.Partial(len), jax.jit(len), linear.jitted):
        hooked.Holder(callable_)
        hooked.Holder[int](callable_)
    with refused():
        hooked.Holder(1)


def test_modules_are_types(hooked, linear):
    assert hooked.function(jnp.ones(1), linear) == 1
    with refused():
        hooked.function(jnp.ones(1), 1)


def test_nothing_is_checked_on_the_way_through_a_transformation(hooked, linear):
    assert jtu.tree_map(lambda _: "text", linear).weight == "text"
    assert jax.jit(lambda f, x: f(x))(linear, jnp.ones(3)).tolist() == [4.0, 4.0]
    stacked = jax.vmap(hooked.Linear)(jnp.ones((4, 2, 3)), jnp.ones((4, 2)))
    assert stacked.weight.shape == (4, 2, 3)
    assert jax.grad(lambda f: f(jnp.ones(3)).sum())(linear).bias.tolist() == [1.0, 1.0]


def test_the_signature_stays(hooked):
    assert list(inspect.signature(hooked.Linear).parameters) == ["weight", "bias", "size"]


def test_the_decorator_works_on_a_class_here():
    import beartype

    @jaxtyping.jaxtyped(typechecker=beartype.beartype)
    class A(eqx.Module):
        x: jaxtyping.Float[jaxtyping.Array, " n"]
        y: jaxtyping.Float[jaxtyping.Array, " n"]

    assert A(jnp.ones(2), jnp.ones(2)).x.shape == (2,)
    with refused():
        A(jnp.ones(2), jnp.ones(3))
