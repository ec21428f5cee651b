import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given

import eqx_core
import eqx_filter


class Linear(eqx_core.Module):
    weight: jax.Array
    name: str
    size: int = eqx_core.field(static=True)


LEAVES = st.one_of(
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.booleans(),
    st.sampled_from([np.float32(2), np.arange(3), jnp.arange(2), jnp.float32(1), jnp.bfloat16(1), len]),
)
TREES = st.recursive(
    st.none() | LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.builds(Linear, inner, inner, st.integers(0, 2))
    ),
    max_leaves=8,
)
PREDICATES = st.sampled_from(
    [
        eqx_core.is_array,
        eqx_core.is_inexact_array,
        eqx_core.is_array_like,
        lambda x: isinstance(x, str),
        lambda x: 0,
        True,
        False,
    ]
)


def pair(x):
    return isinstance(x, tuple)


def same(a, b):
    """Of two trees, whether structure and leaves are the very same."""
    (xs, s), (ys, t) = jtu.tree_flatten(a), jtu.tree_flatten(b)
    return s == t and all(x is y for x, y in zip(xs, ys, strict=True))


@given(TREES, PREDICATES)
def test_combine_undoes_partition(tree, spec):
    assert same(eqx_filter.combine(*eqx_filter.partition(tree, spec)), tree)
    assert same(eqx_filter.combine(*reversed(eqx_filter.partition(tree, spec))), tree)


@given(TREES, PREDICATES)
def test_partition_is_filter_and_its_inverse(tree, spec):
    kept, rest = eqx_filter.partition(tree, spec, replace=7)
    assert same(kept, eqx_filter.filter(tree, spec, replace=7))
    assert same(rest, eqx_filter.filter(tree, spec, inverse=True, replace=7))


@given(TREES)
def test_filter_keeps_the_leaves_that_pass_and_replaces_the_others(tree):
    found = jtu.tree_leaves(eqx_filter.filter(tree, eqx_core.is_array, replace="-"))
    expected = [
        leaf if isinstance(leaf, (jax.Array, np.ndarray, np.generic)) else "-" for leaf in jtu.tree_leaves(tree)
    ]
    assert all(a is b or a == b == "-" for a, b in zip(found, expected, strict=True))


@given(TREES, PREDICATES, PREDICATES)
def test_a_prefix_applies_to_each_subtree(tree, spec, other):
    found = eqx_filter.filter({"a": tree, "b": [tree, 1]}, {"a": spec, "b": other})
    assert same(found, {"a": eqx_filter.filter(tree, spec), "b": eqx_filter.filter([tree, 1], other)})


def test_none_is_structure_and_stays():
    tree = {"a": None, "b": 1}
    assert eqx_filter.filter(tree, False, replace=0) == {"a": None, "b": 0}
    assert eqx_filter.filter(tree, {"a": None, "b": True}) == tree
    assert eqx_filter.filter(None, True) is None


def test_empty_trees_pass_through():
    assert eqx_filter.partition([], eqx_core.is_array) == ([], [])
    assert eqx_filter.combine((), ()) == ()
    assert eqx_filter.partition((), ()) == ((), ())


def test_results_of_a_predicate_count_by_truth():
    assert eqx_filter.filter([0, 1, 2], lambda x: x) == [None, 1, 2]
    assert eqx_filter.filter(["", "a"], lambda x: np.bool_(x == "a"), inverse=True) == ["", None]


def test_is_leaf_makes_leaves_of_subtrees_of_the_target():
    assert eqx_filter.filter([(1, 2), 3], pair, is_leaf=pair) == [(1, 2), None]
    assert eqx_filter.partition([(1, 2), 3], [True, False], is_leaf=pair) == ([(1, 2), None], [None, 3])
    assert eqx_filter.filter({"a": None}, lambda x: True, inverse=True, replace=1, is_leaf=lambda x: x is None) == {
        "a": 1
    }


def test_a_module_of_bools_is_a_prefix_though_it_can_be_called():
    class Callable(eqx_core.Module):
        a: object
        b: object

        def __call__(self, x):
            raise AssertionError

    assert eqx_filter.filter(Callable(1, 2), Callable(True, False)) == Callable(1, None)


def test_shape_dtype_structs_are_not_arrays():
    struct = jax.ShapeDtypeStruct((2,), jnp.float32)
    assert eqx_filter.partition([struct], eqx_core.is_array) == ([None], [struct])


def test_traced_values_are_arrays():
    @jax.jit
    def f(x):
        arrays, rest = eqx_filter.partition({"x": x, "n": 2}, eqx_core.is_array)
        assert rest == {"x": None, "n": 2}
        return eqx_filter.combine(arrays, rest)["x"] * 2

    assert f(3.0) == 6
    np.testing.assert_array_equal(jax.vmap(f)(jnp.arange(3.0)), [0, 2, 4])
    assert jax.grad(f)(3.0) == 2


@pytest.mark.parametrize("function", [eqx_filter.filter, eqx_filter.partition])
def test_a_specification_of_anything_else_is_refused(function):
    name = function.__name__
    with pytest.raises(ValueError, match=rf"`{name}\(filter_spec=...\)` must consist of bools.*`int` at `\['a'\]`"):
        function({"a": 1}, {"a": 1})
    with pytest.raises(ValueError, match=r"must consist of bools and functions.*`str`"):
        function({"a": 1}, "text")
    with pytest.raises(ValueError, match=r"must consist of bools and functions.*`bool`"):
        function([1], [np.bool_(True)])
    with pytest.raises(ValueError, match="must consist of bools and functions"):
        jax.jit(lambda spec: function([1], spec))(True)


def test_a_specification_that_is_no_prefix_is_refused():
    with pytest.raises(ValueError, match="key"):
        eqx_filter.filter({"a": 1}, {"b": True})
    with pytest.raises(ValueError, match="prefix"):
        eqx_filter.partition([1, [2, 3]], [True, None])


def test_combine_takes_the_first_leaf_that_is_not_none():
    assert eqx_filter.combine([None, 2, None], [1, 3, None], [4, 5, None]) == [1, 2, None]
    assert eqx_filter.combine([0, ""], [1, 1]) == [0, ""]
    assert eqx_filter.combine([1, None]) == [1, None]


def test_combine_is_led_by_the_first():
    assert eqx_filter.combine({"a": None}, {"a": [1, 2]}) == {"a": [1, 2]}
    with pytest.raises(ValueError, match=r"list"):
        eqx_filter.combine({"a": [None, 1]}, {"a": None})
    with pytest.raises(ValueError, match=r"tuple"):
        eqx_filter.combine((1,), (1, 2))


def test_combine_takes_leaves_to_be_what_is_leaf_says():
    assert eqx_filter.combine([None, (1,)], [(3, 4), None], is_leaf=pair) == [(3, 4), (1,)]
    with pytest.raises(ValueError, match=r"list"):
        eqx_filter.combine([[(1,)]], [3], is_leaf=pair)


def test_combine_wants_a_tree():
    with pytest.raises(TypeError, match=r"`combine\(\*pytrees\)` must get at least one PyTree; got none"):
        eqx_filter.combine()


def test_the_half_without_arrays_can_be_a_static_argument():
    class Model(eqx_core.Module):
        table: dict
        weight: jax.Array

    def halves():
        return eqx_filter.partition(Model({"a": 1, "b": "c"}, jnp.ones(2)), eqx_core.is_array)

    traces = []

    def f(arrays, rest):
        traces.append(None)
        return eqx_filter.combine(arrays, rest).weight * rest.table["a"]

    jitted = jax.jit(f, static_argnums=1)
    for _ in range(2):
        np.testing.assert_array_equal(jitted(*halves()), [1, 1])
    assert len(traces) == 1


def test_as_the_peer_does():
    equinox = pytest.importorskip("equinox")
    tree = {"a": [1, None, np.ones(2)], "b": (jnp.ones(1), "text")}
    for spec in (
        equinox.is_array,
        True,
        {"a": False, "b": equinox.is_inexact_array},
        {"a": [True, None, False], "b": True},
    ):
        for inverse in (False, True):
            assert same(
                eqx_filter.filter(tree, spec, inverse, replace=3), equinox.filter(tree, spec, inverse, replace=3)
            )
        assert same(eqx_filter.combine(*eqx_filter.partition(tree, spec)), tree)
