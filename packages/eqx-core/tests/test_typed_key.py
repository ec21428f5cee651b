"""The key of a static value: equal to another just if value and types are, all the way down."""

import collections
import copy
import dataclasses
import enum
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core as eqx
from eqx_core.internal import typed_key

atoms = (
    st.none()
    | st.booleans()
    | st.integers(-1, 2)
    | st.sampled_from([0.0, -0.0, 1.0, float("nan"), 1j, 0j])
    | st.sampled_from(["", "1", b"1", len, int, Ellipsis])
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from(["a", 1, True, 1.0]), inner, max_size=2)
        | st.frozensets(st.sampled_from([0, 1, True, 1.0]), max_size=2)
    ),
    max_leaves=4,
)


def same(a, b):
    """Say by brute force whether two values of the strategies above are the same."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        pairs = [(key, other) for key in a for other in b if same(key, other)]
        return len(pairs) == len(a) == len(b) and all(same(a[key], b[other]) for key, other in pairs)
    if isinstance(a, frozenset):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    return repr(a) == repr(b)


@given(values, values)
def test_keys_are_equal_just_if_the_values_are_the_same(a, b):
    assert (typed_key(a) == typed_key(b)) == same(a, b)
    if same(a, b):
        assert hash(typed_key(a)) == hash(typed_key(b))


class Kind(enum.Enum):
    A = 1
    B = 2


class Number(enum.IntEnum):
    A = 1


class Point(NamedTuple):
    x: Any


@dataclasses.dataclass(frozen=True)
class Config:
    n: Any
    note: Any = dataclasses.field(default="", compare=False)


@dataclasses.dataclass
class Mutable:
    n: Any


@dataclasses.dataclass(eq=False)
class ByIdentity:
    n: Any


class Module(eqx.Module):
    n: Any
    s: Any = eqx.field(static=True, default=0)


class Equal:
    """Equal to others of its kind, and not to be hashed."""

    def __eq__(self, other):
        return isinstance(other, Equal)


class Raises:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        if not isinstance(other, Raises):
            raise AssertionError("compared with another type")
        return self.x == other.x

    def __hash__(self):
        return hash(self.x)


identity = ByIdentity(1)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Kind.A, Kind.A),
        (np.arange(3), np.arange(3)),
        (np.arange(6).reshape(2, 3).T, np.arange(6).reshape(2, 3).T.copy()),
        (np.float32(1), np.float32(1)),
        (np.float32("nan"), np.float32("nan")),
        (np.dtype("f4"), np.dtype("float32")),
        (jnp.float32, np.dtype("float32")),
        ((jnp.bfloat16,), (jnp.dtype("bfloat16"),)),
        (Point(1), Point(1)),
        (Config(1, "a"), Config(1, "b")),
        (Mutable([1]), Mutable([1])),
        (identity, identity),
        (Module(1, [2]), Module(1, [2])),
        (Equal(), Equal()),
        ([Equal()], [Equal()]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (collections.OrderedDict(a=1), collections.OrderedDict(a=1)),
        (slice(1, 2), slice(1, 2)),
        (jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.float32)),
        (jtu.tree_structure([1, 2]), jtu.tree_structure([3, 4])),
        (jax.sharding.PartitionSpec("a", None), jax.sharding.PartitionSpec("a", None)),
    ],
)
def test_these_are_the_same(a, b):
    assert typed_key(a) == typed_key(b)
    assert hash(typed_key(a)) == hash(typed_key(b))
    assert typed_key([(a,)]) == typed_key([(b,)])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Kind.A, Kind.B),
        (Number.A, 1),
        (np.arange(3), np.arange(3.0)),
        (np.zeros((2, 1)), np.zeros((1, 2))),
        (np.array(0.0), np.array(-0.0)),
        (np.float32(1), np.float64(1)),
        (np.arange(2), jnp.arange(2)),
        (np.dtype("f4"), np.dtype(">f4")),
        (np.dtype("f4"), np.float32),
        (np.dtype("f4"), jnp.float16),
        (Point(1), Point(True)),
        (Point(1), (1,)),
        (Config(1), Config(True)),
        (Config((0.0,)), Config((-0.0,))),
        (Mutable([1]), Mutable([1.0])),
        (ByIdentity(1), ByIdentity(1)),
        (Module(1), Module(1.0)),
        (Module(1, 1), Module(1, True)),
        (Equal(), Raises(1)),
        (Raises(1), 1),
        (Raises(1), Raises(2)),
        (slice(0, 1), slice(False, 1)),
        (functools.partial(len), functools.partial(len)),
        (jax.jit(len), jax.jit(len)),
        (collections.OrderedDict(a=1), {"a": 1}),
        (object(), object()),
    ],
)
def test_these_are_not(a, b):
    assert typed_key(a) != typed_key(b)
    assert typed_key({"k": a}) != typed_key({"k": b})
    assert typed_key(a) == typed_key(a)


def test_jax_arrays_are_compared_by_identity():
    x = jnp.ones(2)
    assert typed_key(x) == typed_key(x)
    assert typed_key([x]) != typed_key([x + 0])
    assert jax.jit(lambda y: typed_key(y) == typed_key(y) and typed_key(y) != typed_key(y + 1))(x)


def test_object_arrays_are_compared_by_identity():
    x = np.array([object()])
    assert typed_key(x) == typed_key(x)
    assert typed_key(x) != typed_key(x.copy())


def test_keys_can_be_kept():
    table = {typed_key(value): value for value in (1, 1.0, True, [1], (1,), {"a": np.ones(2)})}
    assert len(table) == 6
    assert table[typed_key(copy.deepcopy([1]))] == [1]
