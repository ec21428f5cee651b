"""tree_diff says what differs, and nothing just when tree_equal says that all is equal."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core
from eqx_core import Module, field, tree_diff, tree_equal


class Layer(Module):
    w: object
    b: object = None
    name: object = field(static=True, default="layer")


class Other(Module):
    w: object
    b: object = None
    name: object = field(static=True, default="layer")


nan = float("nan")
leaves = st.sampled_from(
    [
        *(0, 1, 1.0, True, nan, "a", "b", len, None),
        *(jnp.array(1.0), jnp.array(1), jnp.array([1.0, nan]), jnp.array([1.0, 2.0]), jnp.array([1.0, 2.125])),
        *(np.array([1.0, 2.0]), np.array([1.0, 2.0], np.float32), np.float32(1), jnp.array([1, 2], jnp.bfloat16)),
        jax.ShapeDtypeStruct((2,), jnp.float32),
        jax.ShapeDtypeStruct((3,), jnp.float32),
    ]
)
static = st.sampled_from([0, 1, 1.0, True, 0.0, -0.0, "a", (1,), (1.0,), [1], {"a": 1}, len])
trees = st.recursive(
    leaves,
    lambda children: (
        st.lists(children, max_size=2)
        | st.tuples(children)
        | st.dictionaries(st.sampled_from("ab"), children, max_size=2)
        | st.builds(Layer, children, children, static)
        | st.builds(Other, children)
    ),
    max_leaves=5,
)
tolerances = st.sampled_from([{}, {"typematch": True}, {"rtol": 0.1}, {"atol": 0.25}])


def kinds(a, b, **kwargs):
    return [(difference.path, difference.kind) for difference in tree_diff(a, b, **kwargs)]


@given(trees, trees, tolerances)
def test_it_is_empty_just_when_tree_equal_is_true(a, b, kwargs):
    for x, y in ((a, b), (a, a), (b, a)):
        assert (len(tree_diff(x, y, **kwargs)) == 0) == bool(tree_equal(x, y, **kwargs))


@given(trees, trees)
def test_each_difference_has_a_place_a_kind_and_a_message(a, b):
    for difference in tree_diff(a, b):
        assert difference.kind in {"structure", "static", "type", "shape", "dtype", "value"}
        assert difference.message
        assert difference.path in str(difference)


def test_equal_trees_give_something_false_and_empty():
    diff = tree_diff(Layer(jnp.ones(2)), Layer(jnp.ones(2)))
    assert not diff
    assert list(diff) == []
    assert str(diff) == repr(diff) == "The trees are equal."


@pytest.mark.parametrize(
    ("a", "b", "path", "kind", "message"),
    [
        ([1, 2], (1, 2), "", "structure", "list of 2 became tuple of 2"),
        ({"x": [1]}, {"x": 1.5}, "['x']", "structure", "list of 1 became 1.5"),
        ([None], [jnp.ones(2)], "[0]", "structure", "None became f32[2]"),
        ([()], [None], "[0]", "structure", "empty tuple became None"),
        ([1, 2], [1], "[1]", "structure", "2 is in the first tree only"),
        ({"a": 1}, {"a": 1, "b": 2}, "['b']", "structure", "2 is in the second tree only"),
        ([Layer(1)], [Other(1)], "[0]", "structure", "Layer of 2 became Other of 2"),
        (Layer(1, 2, "x"), Layer(1, 2, "y"), ".name", "static", "'x' became 'y'"),
        ([Layer(1, 2, 1)], [Layer(1, 2, True)], "[0].name", "static", "1 (int) became True (bool)"),
        (jnp.ones(2), np.ones(3, np.float32), "", "shape", "(2,) became (3,)"),
        (jnp.ones(2), jnp.ones(2, int), "", "dtype", "float32 became int32"),
        (jnp.ones(()), 1.0, "", "type", "f32[] became 1.0"),
        (1, 2.5, "", "value", "1 became 2.5"),
        ("a", 1, "", "type", "'a' became 1"),
        (len, abs, "", "value", "<built-in function len> became <built-in function abs>"),
    ],
)
def test_each_kind_of_difference_is_named_with_its_path(a, b, path, kind, message):
    (difference,) = tree_diff(a, b)
    assert (difference.path, difference.kind, difference.message) == (path, kind, message)


def test_differences_at_several_places_come_in_the_order_of_the_tree():
    a = {"x": Layer(jnp.zeros(2), [1, 2], "x"), "y": jnp.ones((2, 3))}
    b = {"x": Layer(jnp.ones(2), [1], "y"), "y": jnp.ones((3, 2), jnp.bfloat16)}
    assert kinds(a, b) == [
        ("['x'].name", "static"),
        ("['x'].w", "value"),
        ("['x'].b[1]", "structure"),
        ("['y']", "shape"),
        ("['y']", "dtype"),
    ]
    lines = str(tree_diff(a, b)).splitlines()
    assert len(lines) == 5
    assert all("['x']" in line for line in lines[:3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16, np.complex64, np.int8, np.uint64])
def test_values_are_measured_as_numpy_does(dtype):
    rng = np.random.default_rng(0)
    a = rng.integers(1, 100, (3, 4)).astype(dtype)
    b = rng.integers(1, 100, (3, 4)).astype(dtype)
    b[0] = a[0]
    wide = np.complex128 if dtype == np.complex64 else np.float64
    distance = np.abs(a.astype(wide) - b.astype(wide))
    at = list(map(int, np.unravel_index(distance.argmax(), distance.shape)))
    for x in (a, jnp.asarray(a)) if np.dtype(dtype).itemsize <= 4 or dtype == np.complex64 else (a,):
        (difference,) = tree_diff(x, b)
        assert difference.kind == "value"
        assert difference.absolute == distance.max()
        np.testing.assert_allclose(difference.relative, (distance / np.abs(a.astype(wide))).max())
        assert difference.message.startswith(f"{(a != b).sum()} of 12 elements: at most ")
        assert difference.message.endswith(f"at {at}")


def test_integers_are_subtracted_without_overflow():
    big = np.iinfo(np.int64)
    (difference,) = tree_diff(np.array([big.min, 0]), np.array([big.max, 0]))
    assert difference.absolute == float(2**64)
    (difference,) = tree_diff(np.array([2**60]), np.array([2**60 + 1]))
    assert difference.absolute == 1.0


def test_infinities_differ_infinitely():
    inf = np.inf
    (difference,) = tree_diff(np.array([inf, inf, 0.0]), np.array([inf, -inf, 0.0]))
    assert difference.absolute == difference.relative == inf
    (difference,) = tree_diff(np.array([0.0]), np.array([0.5]))
    assert (difference.absolute, difference.relative) == (0.5, inf)


def test_nan_is_counted_and_left_out_of_the_measure():
    a, b = jnp.array([nan, nan, 1.0, 1.0]), jnp.array([nan, 1.0, nan, 1.5])
    (difference,) = tree_diff(a, b)
    assert difference.absolute == 0.5
    assert difference.message.startswith("4 of 4 elements: at most 0.5 apart")
    assert difference.message.endswith("; NaN in both trees at 1, in one at 2")
    (difference,) = tree_diff(a[:1], a[:1])
    assert difference.absolute is None
    assert difference.message == "1 of 1 elements; NaN in both trees at 1, in one at 0"


def test_numbers_that_are_no_arrays_are_measured_too():
    (difference,) = tree_diff(4, 5.0)
    assert (difference.absolute, difference.relative) == (1.0, 0.25)


def test_tolerances_and_typematch_are_those_of_tree_equal():
    a, b = [jnp.array([1.0, 2.0]), 1], [jnp.array([1.05, 2.0]), 1.0]
    assert kinds(a, b) == [("[0]", "value")]
    assert kinds(a, b, rtol=0.1) == kinds(a, b, atol=0.1) == []
    assert kinds(a, b, rtol=0.1, typematch=True) == [("[1]", "type")]


def test_keys_booleans_and_strings_are_compared_without_a_measure():
    for a, b in (
        (jr.key(0), jr.key(1)),
        (jr.split(jr.key(0), 3), jr.split(jr.key(1), 3)),
        (np.array([True]), np.array([False])),
        (np.array(["a"]), np.array(["b"])),
    ):
        (difference,) = tree_diff(a, b)
        assert difference.absolute is None
        assert difference.message == f"{a.size} of {a.size} elements"
        assert not tree_diff(a, a)


def test_static_data_of_a_foreign_node_is_a_difference():
    a, b = jax.tree_util.Partial(len, 1), jax.tree_util.Partial(abs, 1)
    assert kinds([a], [b]) == [("[0]", "static")]


def test_a_wrapper_is_a_difference():
    class Wrapper(Module):
        fn: object

        @property
        def __wrapped__(self):
            return self.fn

    a = Wrapper(len)
    assert kinds(a, eqx_core.module_update_wrapper(a)) == [("", "static")]


def test_empty_trees_are_equal():
    assert not tree_diff((), ())
    assert not tree_diff(None, None)


def test_large_arrays_are_never_printed():
    diff = tree_diff([jnp.ones((50, 50)), None], [jnp.zeros((50, 50)), jnp.ones((50, 50))])
    assert max(map(len, str(diff).splitlines())) < 120


def test_comparing_tracers_is_refused():
    def f(x):
        return tree_diff({"a": x}, {"a": x + 1}) and x

    with pytest.raises(RuntimeError, match=r"`tree_diff\(a=..., b=...\)` must be called where.*tracer at `\['a'\]`"):
        jax.jit(f)(jnp.ones(2))


def test_shapes_are_compared_under_jit_and_in_abstract_trees():
    @jax.jit
    def f(x):
        assert kinds(x, x[1:]) == [("", "shape")]
        return x

    f(jnp.ones(2))
    a = jax.eval_shape(lambda: Layer(jnp.ones(2)))
    b = jax.eval_shape(lambda: Layer(jnp.ones(3, int)))
    assert kinds(a, b) == [(".w", "shape"), (".w", "dtype")]


def test_a_difference_is_a_frozen_record():
    (difference,) = tree_diff(1, 2)
    assert str(difference) == "(root): value: 1 became 2"
    with pytest.raises(dataclasses.FrozenInstanceError):
        difference.path = ""
