"""Abstract attributes in a module all of whose annotations are strings."""

from __future__ import annotations

import dataclasses
import typing
from typing import ClassVar

import jax.tree_util as jtu
import pytest

import eqx_core
import eqx_core as eqx
from eqx_core import AbstractClassVar, AbstractVar, AbstractVar as Wanted


class Base(eqx.Module):
    a: AbstractVar[int]
    b: eqx.AbstractVar[list[int]]
    c: eqx_core.AbstractClassVar[int]
    d: Wanted[int]
    e: int
    f: eqx_core.internal.AbstractVar[int]


class Full(Base):
    c: ClassVar[int] = 3
    a: int
    b: list[int] = eqx.field(default_factory=list)
    d: int = 4
    f: int = 5


def test_they_are_recognised_by_whatever_name():
    assert Base.__abstractvars__ == {"a", "b", "d", "f"}
    assert Base.__abstractclassvars__ == {"c"}
    assert [field.name for field in dataclasses.fields(Base)] == ["e"]
    assert Base.__annotations__["a"] == "AbstractVar[int]"
    with pytest.raises(TypeError, match="abstract class attributes c"):
        Base(1)


def test_they_are_filled_as_elsewhere():
    assert jtu.tree_leaves(Full(1, 2)) == [1, 2, 4, 5]
    assert Full(1, 2).c == 3

    class OnlyClassVar(Base):
        a: typing.ClassVar[int] = 1
        c: typing.ClassVar[int]

    assert OnlyClassVar.__abstractvars__ == {"b", "d", "f"}
    assert OnlyClassVar.__abstractclassvars__ == set()


def test_names_known_only_inside_a_function_are_recognised_by_their_spelling():
    import eqx_core as local

    class A(local.Module):
        a: local.AbstractVar[int]

    class B(A):
        a: int

    assert A.__abstractvars__ == {"a"}
    assert B(1).a == 1


def test_mistakes_are_found():
    with pytest.raises(TypeError, match="`AbstractVar` must not be unsubscripted"):

        class A(eqx.Module):
            a: AbstractVar

    with pytest.raises(TypeError, match="`Wanted` must not be unsubscripted"):

        class B(eqx.Module):
            a: Wanted

    with pytest.raises(TypeError, match="cannot have value 1"):

        class C(eqx.Module):
            a: AbstractClassVar[int] = 1
