"""Usages that a type checker must refuse, each on the line so marked, and nowhere else."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

import eqx_core as eqx
from eqx_core.internal import Static


class Linear(eqx.Module):
    weight: jax.Array
    size: int = eqx.field(static=True, default=3)
    scale: float = eqx.field(converter=float, default=1.0, kw_only=True)

    def double(self, x: jax.Array) -> jax.Array:
        return 2 * x


Linear()  # error: an argument is missing
Linear("weight")  # error: of another type
Linear(jnp.ones(1), 2, 3.0)  # error: keyword only
Linear(jnp.ones(1), sise=2)  # error: no such field
linear = Linear(jnp.ones(1))
print(linear.wieght)  # error: no such attribute
linear.double("x")  # error: of another type
linear.weight = "text"  # error: of another type
dataclasses.replace(1)  # error: no dataclass
text: str = linear.size  # error: an int


class Custom(eqx.Module):
    a: int

    def __init__(self, text: str):
        self.a = text  # error: a str


Custom(1)  # error: its own `__init__` takes a str


class Late(eqx.Module):
    a: int = 1
    b: int  # error: without default, after one with


class Post(eqx.Module):
    only: dataclasses.InitVar[int]
    flag: bool = eqx.field(init=False)

    def __post_init__(self, only: str) -> None:  # error: an int comes
        self.flag = True


Post(1, True)  # error: `flag` is no argument


class Base(eqx.Module):
    step: eqx.AbstractVar[float]
    order: eqx.AbstractClassVar[int]


class Child(Base):
    step: str = ""  # error: a float is wanted
    order: ClassVar[str] = "one"  # error: an int is wanted


eqx.field(static=1)  # error: not a bool
eqx.field(converter=3)  # error: not callable
eqx.Partial(3)  # error: not callable
number: int = Static("text").value  # error: a str
eqx.module_update_wrapper(len)  # error: no Module
eqx.is_array()  # error: an argument is missing
