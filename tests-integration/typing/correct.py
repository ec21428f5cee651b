"""Usages that a type checker must accept."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, assert_type

import jax
import jax.numpy as jnp

import eqx_core as eqx
from eqx_core.internal import Static

if TYPE_CHECKING:
    # Type checkers know a `ClassVar` by where it was imported from.
    from typing import ClassVar as AbstractClassVar
else:
    from eqx_core import AbstractClassVar

T = TypeVar("T")


class Linear(eqx.Module):
    weight: jax.Array
    bias: jax.Array | None = None
    size: int = eqx.field(static=True, default=3)
    scale: float = eqx.field(converter=float, default=1.0, kw_only=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.weight @ x

    def double(self, x: jax.Array) -> jax.Array:
        return 2 * self(x)

    @property
    def width(self) -> int:
        return self.size

    @classmethod
    def zeros(cls, size: int) -> "Linear":
        return cls(jnp.zeros(size), size=size)

    @staticmethod
    def name() -> str:
        return "linear"


linear = Linear(jnp.ones(2), None, 3, scale=2.0)
linear = Linear(weight=jnp.ones(2))
assert_type(linear, Linear)
assert_type(linear.size, int)
assert_type(linear.width, int)
assert_type(linear(jnp.ones(2)), jax.Array)
assert_type(linear.double(jnp.ones(2)), jax.Array)
assert_type(Linear.zeros(2), Linear)
assert_type(Linear.name(), str)
assert_type(dataclasses.replace(linear, size=4), Linear)


class Custom(eqx.Module):
    a: int
    b: list[int] = eqx.field(default_factory=list)

    def __init__(self, text: str):
        self.a = int(text)
        self.b = [self.a]

    def __check_init__(self) -> None:
        if self.a < 0:
            raise ValueError


assert_type(Custom("1").b, list[int])


class Chained(eqx.Module):
    a: int
    only: dataclasses.InitVar[int]
    table: dict[str, int] = dataclasses.field(default_factory=dict)
    b: bool = eqx.field(init=False)

    def __post_init__(self, only: int) -> None:
        self.b = only > 0


Chained(1, 2)
Chained(1, only=2, table={"a": 1})


class Solver(eqx.Module):
    order: AbstractClassVar[int]
    step: eqx.AbstractVar[float]

    def next(self, x: float) -> float:
        return x + self.step * self.order


class Euler(Solver):
    order: ClassVar[int] = 1
    step: float = 0.1


assert_type(Euler().next(1.0), float)
assert_type(Euler(step=0.2).order, int)


class Box(eqx.Module, Generic[T]):
    value: T

    def get(self) -> T:
        return self.value


assert_type(Box(1), Box[int])
assert_type(Box("a").get(), str)
assert_type(Box[float](1).value, float)


class Meta(type(eqx.Module)):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class Base(eqx.Module, metaclass=Meta):
    a: int


class Derived(Base):
    b: str = eqx.field(static=True)

    def get(self) -> str:
        return self.b


Derived(1, "b")


class Tagged(eqx.Module, is_abstract=True):
    tags: ClassVar[list[str]] = []

    def __init_subclass__(cls, tag: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.tags.append(tag)


class One(Tagged, tag="one", strict=True):
    pass


class Wrapper(eqx.Module):
    fn: Callable[..., Any]

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fn

    def __call__(self, *args: Any) -> Any:
        return self.fn(*args)


assert_type(eqx.module_update_wrapper(Wrapper(len)), Wrapper)


def length(x: str, times: int) -> int:
    return len(x) * times


assert_type(eqx.Partial(length, "a"), eqx.Partial[int])
assert_type(eqx.Partial(length, "a")(times=2), int)
assert_type(Static("text").value, str)


def is_weight(x: object) -> bool:
    if eqx.is_array(x):
        return x.ndim > 1
    return False


hash(One())
jax.jit(lambda f, x: f(x))(linear, jnp.ones(2))
jax.vmap(linear.double)(jnp.ones((2, 2)))
assert_type(linear == linear, Any)
eqx.tree_pformat(linear, width=40)
