"""ω applies an operator to each leaf, just as `jax.tree.map` of that operator does."""

import importlib.util
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from eqx_core.internal import ω

ARITHMETIC = (
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
)
COMPARE = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
BITWISE = (operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift)
UNARY = (operator.neg, operator.pos, operator.abs)

# Small integers and powers of two: every result is exact, so that equality is the oracle.
leaves = st.sampled_from([1, 2, 3, 4.0, 0.5, jnp.array([1.0, 2.0]), jnp.array(3.0)])
trees = st.recursive(
    leaves,
    lambda children: (
        st.lists(children, max_size=3)
        | st.tuples(children, children)
        | st.dictionaries(st.sampled_from("abc"), children, max_size=3)
        | st.just(None)
    ),
    max_leaves=6,
)


def is_none(x):
    return x is None


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert type(x) is type(y)
        np.testing.assert_array_equal(x, y)


@given(trees, trees, st.sampled_from(ARITHMETIC + COMPARE))
def test_binary_operators_are_tree_map(tree, other, op):
    same = jax.tree.unflatten(jax.tree.structure(tree), [2.0 * x for x in jax.tree.leaves(tree)])
    assert_same(op(tree**ω, same**ω).ω, jax.tree.map(op, tree, same))
    if jax.tree.structure(tree) != jax.tree.structure(other):
        with pytest.raises(ValueError, match="of the same structure; got"):
            op(tree**ω, other**ω)


@given(trees, st.sampled_from([2, 0.5, jnp.array(2.0)]), st.sampled_from(ARITHMETIC + COMPARE))
def test_scalars_are_broadcast_over_leaves_on_either_side(tree, scalar, op):
    assert_same(op(tree**ω, scalar).ω, jax.tree.map(lambda x: op(x, scalar), tree))
    assert_same(op(scalar, tree**ω).ω, jax.tree.map(lambda x: op(scalar, x), tree))


@given(trees, st.sampled_from(UNARY))
def test_unary_operators_are_tree_map(tree, op):
    assert_same(op(tree**ω).ω, jax.tree.map(op, tree))


@given(st.lists(st.integers(0, 20), max_size=4), st.integers(0, 4), st.sampled_from(BITWISE))
def test_bitwise_operators_are_tree_map(tree, scalar, op):
    assert_same(op(tree**ω, tree**ω).ω, [op(x, x) for x in tree])
    assert_same(op(tree**ω, scalar).ω, [op(x, scalar) for x in tree])
    assert_same(op(scalar, tree**ω).ω, [op(scalar, x) for x in tree])
    assert_same((~(tree**ω)).ω, [~x for x in tree])


def test_matmul_works_on_both_sides():
    x = np.arange(4.0, dtype=np.float32).reshape(2, 2)
    tree = [jnp.asarray(x)]
    np.testing.assert_array_equal((tree**ω @ tree**ω).ω[0], x @ x)
    np.testing.assert_array_equal((tree**ω @ jnp.ones(2)).ω[0], x @ np.ones(2, np.float32))
    np.testing.assert_array_equal((jnp.ones(2) @ tree**ω).ω[0], np.ones(2, np.float32) @ x)


@pytest.mark.parametrize(
    "tree",
    [
        1.0,
        [1.0],
        (1.0,),
        {"a": 1},
        None,
        jnp.ones(2),
        np.ones(2),
        np.float32(1),
        np.float64(1),
        np.array(1.0),
    ],
)
def test_power_of_omega_wraps_every_tree(tree):
    assert isinstance(tree**ω, ω)
    assert (tree**ω).ω is tree
    assert not isinstance(tree, ω)


@pytest.mark.parametrize("other", [np.ones(2), np.array(1.0), np.float32(1), np.bool_(True), "a", None, [1.0]])
@pytest.mark.parametrize("op", [operator.add, operator.mul, operator.pow, operator.eq, operator.lt])
def test_numpy_and_other_operands_are_refused_on_either_side(op, other):
    wrapped = [jnp.ones(2)] ** ω
    with pytest.raises(
        RuntimeError,
        match=f"got `{type(other).__name__}`. Wrap a PyTree in ω, and a NumPy value in",
    ):
        op(wrapped, other)
    with pytest.raises(RuntimeError, match=f"other operand; got `{type(other).__name__}`"):
        op(other, wrapped)


def test_python_bools_and_complex_numbers_are_scalars():
    assert ([1, 2] ** ω + True).ω == [2, 3]
    assert (1j * [1.0] ** ω).ω == [1j]
    assert_same(([jnp.array([True, False])] ** ω & True).ω, [jnp.array([True, False])])


def test_numpy_float64_is_a_float_and_passes():
    assert_same(([1.0] ** ω + np.float64(2)).ω, [np.float64(3)])
    assert_same((np.float64(2) + [1.0] ** ω).ω, [np.float64(3)])


def test_the_error_says_where_the_structures_differ():
    with pytest.raises(ValueError, match=r"`ω.add\(other=...\)` must.*a leaf at `\['b'\]` in the first only"):
        {"a": 1, "b": 2} ** ω + {"a": 1} ** ω
    with pytest.raises(ValueError, match=r"`ω.sub.*a leaf at `\[1\]` in the second only"):
        [1] ** ω - [1, 2] ** ω
    with pytest.raises(ValueError, match="a leaf at `the root` in the first only"):
        1.0**ω * [1.0] ** ω
    with pytest.raises(ValueError, match="in nodes of different types or static values"):
        _ = [1] ** ω < (1,) ** ω


def test_is_leaf_is_respected_and_carried_along():
    wrapped = ω([None, 1.0], is_leaf=is_none)
    filled = wrapped.call(lambda x: 0.0 if x is None else x)
    assert filled.ω == [0.0, 1.0]
    results = [filled, filled + filled, filled * 2, 2 * filled, -filled, filled < 1, abs(filled)]
    assert all(result.is_leaf is is_none for result in results)
    arrays = ω([jnp.ones(2)], is_leaf=is_none)
    assert arrays[0].is_leaf is is_none
    assert arrays.at[0].set(2.0).is_leaf is is_none


def test_is_leaf_must_be_the_same_function_or_of_the_same_bytecode():
    first, second = ω([1.0], is_leaf=lambda x: x is None), ω([1.0], is_leaf=lambda y: y is None)
    assert (first + second).ω == [2.0]
    for other in (ω([1.0]), ω([1.0], is_leaf=lambda x: x is True), ω([1.0], is_leaf=callable)):
        with pytest.raises(ValueError, match=r"`ω.add\(other=...\)` must have operands of the same `is_leaf`; got"):
            first + other
        with pytest.raises(ValueError, match="Wrap both as"):
            other + first


def test_is_leaf_that_closes_over_another_value_is_another_function():
    def is_(value):
        return lambda x: x is value

    assert (ω([1.0], is_leaf=is_(None)) + ω([1.0], is_leaf=is_(None))).ω == [2.0]
    with pytest.raises(ValueError, match="same `is_leaf`"):
        ω([1.0], is_leaf=is_(None)) + ω([1.0], is_leaf=is_(()))


def test_indexing_applies_to_each_leaf():
    tree = [jnp.arange(3), (jnp.arange(4),)]
    assert_same((tree**ω)[1:].ω, [jnp.arange(1, 3), (jnp.arange(1, 4),)])


@pytest.mark.parametrize("name", ["set", "add", "multiply", "divide", "power", "min", "max"])
def test_at_updates_part_of_each_leaf(name):
    tree = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([4.0, 8.0])}
    parts = {"a": jnp.array(3.0), "b": jnp.array(2.0)}
    update = getattr((tree**ω).at[1], name)
    assert_same(update(2.0).ω, jax.tree.map(lambda x: getattr(x.at[1], name)(2.0), tree))
    assert_same(update(parts**ω).ω, jax.tree.map(lambda x, y: getattr(x.at[1], name)(y), tree, parts))
    assert_same(update(parts["a"]).ω, jax.tree.map(lambda x: getattr(x.at[1], name)(3.0), tree))


def test_at_refuses_what_operators_refuse():
    ref = ([jnp.ones(2)] ** ω).at[0]
    with pytest.raises(RuntimeError, match=r"`ω.at\[...\].set\(other=...\)` must have another ω"):
        ref.set(np.ones(()))
    with pytest.raises(ValueError, match=r"`ω.at\[...\].add\(other=...\)` must have operands of the same structure"):
        ref.add([1.0, 2.0] ** ω)
    with pytest.raises(TypeError, match="unexpected keyword argument 'mode'"):
        ref.set(1.0, mode="drop")


def test_a_comparison_has_no_truth_value():
    with pytest.raises(TypeError, match=r"`ω.__bool__\(\)` must not be asked for.*tree_equal"):
        bool([1.0] ** ω == [1.0] ** ω)


def test_iterating_is_refused_rather_than_endless():
    with pytest.raises(TypeError, match="not iterable"):
        list(jnp.arange(3) ** ω)
    with pytest.raises(TypeError, match="not a container"):
        _ = 1 in jnp.arange(3) ** ω


def test_repr_shows_the_tree():
    assert repr([1.0, 2] ** ω) == "ω([1.0, 2])"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_dtypes_are_kept(dtype):
    tree = [jnp.ones(2, dtype), jnp.ones((), dtype)]
    assert all(x.dtype == dtype for x in (tree**ω * 2 + tree**ω).ω)


def test_float64_is_kept():
    with jax.enable_x64(True):
        tree = [jnp.ones(2, jnp.float64)]
        assert (tree**ω * 2.0).ω[0].dtype == jnp.float64


def test_jit_grad_and_vmap_see_through_it():
    def f(tree):
        return sum(x.sum() for x in jax.tree.leaves((tree**ω * 3 + (tree**ω) ** 2).ω))

    tree = {"a": jnp.arange(3.0), "b": jnp.ones((2, 3))}
    expected = sum((3 * x + x**2).sum() for x in map(np.asarray, jax.tree.leaves(tree)))
    np.testing.assert_allclose(jax.jit(f)(tree), expected, rtol=1e-6)
    jax.tree.map(lambda g, x: np.testing.assert_allclose(g, 3 + 2 * x), jax.grad(f)(tree), tree)
    row = {"a": jnp.arange(3.0), "b": jnp.ones(3)}
    np.testing.assert_allclose(jax.vmap(f)(row), 3 * (row["a"] + 1) + row["a"] ** 2 + 1)


def test_tracers_and_scalars_made_under_jit_are_operands():
    tree = [jnp.ones(2)]
    (out,) = jax.jit(lambda s: (s * tree**ω + s).ω)(jnp.array(2.0))
    np.testing.assert_array_equal(out, [4.0, 4.0])


def test_the_metaclass_wraps_by_its_own_method():
    assert type(ω).__name__ == "_Metaω"
    assert type(ω).__rpow__(ω, [1]).ω == [1]


@given(trees, st.sampled_from(ARITHMETIC + COMPARE), st.sampled_from([2, 0.5]))
def test_results_are_those_of_equinox(tree, op, scalar):
    theirs = _equinox().ω
    assert_same(op(tree**ω, tree**ω).ω, op(tree**theirs, tree**theirs).ω)
    assert_same(op(tree**ω, scalar).ω, op(tree**theirs, scalar).ω)
    assert repr(tree**ω) == repr(tree**theirs)


def _equinox():
    if importlib.util.find_spec("equinox") is None:
        pytest.skip("Equinox is not installed.")
    return importlib.import_module("equinox.internal")
