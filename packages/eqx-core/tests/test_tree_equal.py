from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, strategies as st
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

import eqx_core


class Layer(eqx_core.Module):
    weight: Any
    bias: Any
    size: Any = eqx_core.field(static=True, default=2)


DTYPES = [jnp.float32, jnp.int8, jnp.uint32, jnp.bool_, jnp.complex64, jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn]

numpy_leaves = st.builds(
    lambda values, dtype: np.asarray(values).astype(dtype),
    st.lists(st.integers(0, 2), min_size=1, max_size=3),
    st.sampled_from([np.float32, np.int8, np.bool_]),
)
leaves = st.integers(0, 2) | st.sampled_from(["a", "b", abs]) | numpy_leaves | st.builds(jnp.asarray, numpy_leaves)
trees = st.recursive(
    leaves, lambda children: st.lists(children, max_size=3) | st.builds(Layer, children, children), max_leaves=6
)


def numpy_equal(a, b):
    """The oracle: leaf by leaf, in NumPy."""
    leaves_a, structure_a = jax.tree.flatten(a)
    leaves_b, structure_b = jax.tree.flatten(b)

    def same(x, y):
        if eqx_core.is_array(x) and eqx_core.is_array(y):
            return x.shape == y.shape and x.dtype == y.dtype and bool((np.asarray(x) == np.asarray(y)).all())
        return not eqx_core.is_array(x) and not eqx_core.is_array(y) and x == y

    return structure_a == structure_b and all(map(same, leaves_a, leaves_b))


@given(trees)
def test_a_tree_equals_its_copy(tree):
    copy = jax.tree.map(lambda x: x.copy() if eqx_core.is_array(x) else x, tree)
    assert eqx_core.tree_equal(tree, tree)
    assert eqx_core.tree_equal(tree, copy)
    assert eqx_core.tree_equal(tree, copy, tree)


@given(trees, trees, trees)
def test_equality_is_an_equivalence_and_that_of_numpy(a, b, c):
    ab, ba, bc = (bool(eqx_core.tree_equal(*pair)) for pair in ((a, b), (b, a), (b, c)))
    assert ab == ba == numpy_equal(a, b)
    if ab and bc:
        assert eqx_core.tree_equal(a, c)
    assert bool(eqx_core.tree_equal(a, b, c)) == (ab and bool(eqx_core.tree_equal(a, c)))


@given(trees)
def test_the_answer_is_an_array_just_if_an_array_of_jax_was_compared(tree):
    answer = eqx_core.tree_equal(tree, tree)
    if any(isinstance(x, jax.Array) for x in jax.tree.leaves(tree)):
        assert isinstance(answer, jax.Array)
        assert (answer.shape, answer.dtype) == ((), jnp.bool_)
    else:
        assert answer is True


def test_one_tree_equals_itself_and_none_is_an_error():
    assert eqx_core.tree_equal(jnp.ones(2)) is True
    with pytest.raises(TypeError, match=r"`tree_equal\(\*pytrees\)` must get at least one PyTree; got none"):
        eqx_core.tree_equal()


def test_what_needs_no_values_gives_false_itself():
    ones = jnp.ones(2)
    assert eqx_core.tree_equal([ones], (ones,)) is False
    assert eqx_core.tree_equal(ones, jnp.ones(3)) is False
    assert eqx_core.tree_equal(ones, jnp.ones(2, jnp.int32)) is False
    assert eqx_core.tree_equal([ones, 1], [jnp.zeros(2), 2]) is False
    assert eqx_core.tree_equal([ones, np.zeros(1)], [ones, np.ones(1)]) is False
    assert eqx_core.tree_equal(jnp.array(0), 0) is False
    assert eqx_core.tree_equal(None, ones) is False
    assert eqx_core.tree_equal(np.zeros(2), np.ones(2)) is False
    assert eqx_core.tree_equal("a", "a", "b") is False


def test_static_fields_are_compared():
    assert eqx_core.tree_equal(Layer(1, 2, size=3), Layer(1, 2, size=3)) is True
    assert eqx_core.tree_equal(Layer(1, 2, size=3), Layer(1, 2, size=4)) is False
    assert eqx_core.tree_equal(Layer(1, 2, size=1), Layer(1, 2, size=True)) is False


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 700)])
def test_every_dtype_and_size_is_compared(dtype, shape):
    a = jnp.ones(shape, dtype)
    assert eqx_core.tree_equal(a, a.copy())
    assert eqx_core.tree_equal(a, np.asarray(a))
    if a.size:
        different = a.at[(-1,) * a.ndim].set(jnp.zeros((), dtype))
        assert not eqx_core.tree_equal(a, different)
        assert not eqx_core.tree_equal(np.asarray(a), different)
        assert not eqx_core.tree_equal([a, a, a], [a, different, a])
        assert eqx_core.tree_equal(np.asarray(a), np.asarray(different)) is False


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [2, 2000])
def test_nan_equals_nothing_and_the_zeros_are_equal(dtype, size):
    nan = jnp.full(size, jnp.nan, dtype)
    assert not eqx_core.tree_equal(nan, nan)
    assert not eqx_core.tree_equal(nan, nan, atol=1.0)
    assert eqx_core.tree_equal(jnp.zeros(size, dtype), -jnp.zeros(size, dtype))
    assert eqx_core.tree_equal(float("nan"), float("nan")) is False
    assert eqx_core.tree_equal(np.asarray(nan), np.asarray(nan)) is False


def test_one_object_is_compared_by_value():
    x = float("nan")
    assert eqx_core.tree_equal(x, x) is False


def test_weak_types_are_ignored():
    assert eqx_core.tree_equal(jnp.asarray(1.0), jnp.asarray(np.float32(1)))


def test_typematch_compares_types():
    assert eqx_core.tree_equal([1, 1], [1.0, True]) is True
    assert eqx_core.tree_equal(1, 1.0, typematch=True) is False
    assert eqx_core.tree_equal(np.float32(2), np.asarray(2, np.float32)) is True
    assert eqx_core.tree_equal(np.float32(2), np.asarray(2, np.float32), typematch=True) is False
    assert eqx_core.tree_equal(np.ones(2, np.float32), jnp.ones(2))
    assert eqx_core.tree_equal(np.ones(2, np.float32), jnp.ones(2), typematch=True) is False
    assert eqx_core.tree_equal(jnp.ones(2), jnp.ones(2), typematch=True)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16, jnp.complex64])
def test_tolerances_apply_to_inexact_arrays(dtype):
    a = jnp.asarray([1.0, 2.0, 0.0], dtype)
    b = (a * jnp.asarray(1.01, dtype)).astype(dtype)
    for x, y in [(a, b), (np.asarray(a), b), (np.asarray(a), np.asarray(b))]:
        assert not eqx_core.tree_equal(x, y)
        assert not eqx_core.tree_equal(x, y, rtol=1e-4)
        assert eqx_core.tree_equal(x, y, rtol=0.1)
        assert eqx_core.tree_equal(x, y, atol=1)
        assert not eqx_core.tree_equal(x, y, atol=1e-3)


def test_infinities_are_within_any_tolerance_of_themselves_only():
    inf = jnp.asarray([jnp.inf, -jnp.inf])
    assert eqx_core.tree_equal(inf, inf, rtol=0.1)
    assert not eqx_core.tree_equal(inf, -inf, rtol=0.1)
    assert eqx_core.tree_equal(np.asarray(inf), np.asarray(inf), atol=0.1) is True


def test_tolerances_do_not_apply_to_the_rest():
    assert eqx_core.tree_equal(1.0, 1.0 + 1e-9, rtol=1e-3) is False
    assert not eqx_core.tree_equal(jnp.arange(2), jnp.arange(2) + 1, atol=2.0)
    assert eqx_core.tree_equal(np.arange(2), np.arange(2) + 1, atol=2.0) is False
    assert eqx_core.tree_equal([jnp.arange(2), jnp.ones(2)], [jnp.arange(2), jnp.ones(2) + 1e-3], atol=0.1)


@pytest.mark.parametrize("tolerances", [{}, {"rtol": 1.0}])
def test_keys_are_compared(tolerances):
    assert eqx_core.tree_equal(jr.key(0), jr.key(0), **tolerances)
    assert not eqx_core.tree_equal(jr.split(jr.key(0)), jr.split(jr.key(1)), **tolerances)
    assert eqx_core.tree_equal(jr.key(0), jr.key(0, impl="rbg"), **tolerances) is False
    assert eqx_core.tree_equal(jr.key(0), jnp.float32(0), **tolerances) is False
    assert eqx_core.tree_equal(np.float32(0), jr.key(0), **tolerances) is False


def test_shape_structs_and_odd_arrays_are_compared():
    struct = jax.ShapeDtypeStruct((2,), jnp.float32)
    assert eqx_core.tree_equal(struct, jax.ShapeDtypeStruct((2,), jnp.float32)) is True
    assert eqx_core.tree_equal(struct, jax.ShapeDtypeStruct((3,), jnp.float32)) is False
    assert eqx_core.tree_equal(struct, jnp.zeros(2)) is False
    assert eqx_core.tree_equal(np.array(["a", "b"]), np.array(["a", "b"])) is True
    assert eqx_core.tree_equal(np.array(["a", "b"]), np.array(["a", "c"])) is False
    zeros = np.zeros(2, jax.dtypes.float0)
    assert eqx_core.tree_equal(zeros, zeros) is True


def test_empty_trees_are_equal():
    assert eqx_core.tree_equal((), ()) is True
    assert eqx_core.tree_equal(None, None) is True
    assert eqx_core.tree_equal([], ()) is False


def test_tracers_give_a_traced_answer():
    @jax.jit
    def compare(a, b):
        assert eqx_core.tree_equal((a, 1), (b, 2)) is False
        assert eqx_core.tree_equal((a, np.ones(1)), (b, np.zeros(1))) is False
        assert eqx_core.tree_equal(a, jnp.zeros(7)) is False
        answer = eqx_core.tree_equal((a, 1), (b, 1))
        assert not isinstance(answer, bool)
        return answer

    assert compare(jnp.ones(2), jnp.ones(2))
    assert not compare(jnp.ones(2), jnp.zeros(2))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tracers_and_arrays_can_be_mixed(dtype):
    one, zero = jnp.ones(2, dtype), jnp.zeros(2, dtype)

    @jax.jit
    def compare(x):
        return [eqx_core.tree_equal([x, one, one], [one, one, y]) for y in (one, zero)]

    assert list(map(bool, compare(one))) == [True, False]
    assert list(map(bool, compare(zero))) == [False, False]


def test_vmap_compares_each_example():
    answer = jax.vmap(lambda x: eqx_core.tree_equal(x, jnp.float32(1)))(jnp.arange(3.0))
    assert answer.tolist() == [False, True, False]
    answer = jax.vmap(lambda x: eqx_core.tree_equal(x, jnp.float32(1), atol=1.0))(jnp.arange(4.0))
    assert answer.tolist() == [True, True, True, False]


def test_grad_goes_past_a_comparison():
    def f(x):
        return jnp.where(eqx_core.tree_equal({"x": x}, {"x": jnp.float32(2)}), 3 * x, x)

    assert jax.grad(f)(jnp.float32(2)) == 3
    assert jax.grad(f)(jnp.float32(1)) == 1


@pytest.mark.skipif(
    jax.device_count() < 2, reason="needs two devices: XLA_FLAGS=--xla_force_host_platform_device_count=2"
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_arrays_may_be_sharded_or_on_different_devices(dtype):
    first, second = jax.devices()[:2]
    mesh = jax.make_mesh((2,), ("i",), devices=[first, second])
    split = NamedSharding(mesh, PartitionSpec("i"))
    values = jnp.arange(4, dtype=dtype)
    here, there, halves = (jax.device_put(values, s) for s in (first, second, split))
    assert isinstance(here.sharding, SingleDeviceSharding)
    for a in (here, there, halves, values):
        for b in (here, there, halves, values):
            assert eqx_core.tree_equal(a, b)
            assert eqx_core.tree_equal(a, b, rtol=1e-3)
            assert not eqx_core.tree_equal(a, b + jnp.ones((), dtype))
    assert eqx_core.tree_equal([here, there, halves], [here, there, halves])
    assert not eqx_core.tree_equal([here, there, halves], [here, there + jnp.ones((), dtype), halves])
    assert not eqx_core.tree_equal([here, there, halves], [here, there, halves + jnp.ones((), dtype)])


def test_a_new_structure_of_known_shapes_compiles_nothing():
    one = jnp.ones(2, jnp.bfloat16)
    eqx_core.tree_equal([one] * 3, [one] * 3)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
    try:
        for n in range(4, 8):
            assert eqx_core.tree_equal([one] * n, [one] * n)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not [name for name in compiled if "backend_compile" in name]


def test_it_works_after_clearing_caches():
    one = jnp.ones(2, jnp.bfloat16)
    for _ in range(2):
        assert eqx_core.tree_equal(one, one)
        eqx_core.clear_caches()


PAIRS = [
    (np.arange(2), np.arange(2)),
    (np.arange(2, dtype=np.int32), jnp.arange(2)),
    (np.float32(2), np.asarray(2, np.float32)),
    (jnp.zeros(2), jnp.ones(2)),
    ([jnp.ones(2), np.zeros(2)], [jnp.ones(2), np.ones(2)]),
    ([jnp.ones(2), 1], [jnp.zeros(2), 2]),
    (jnp.asarray(1.0), jnp.asarray(np.float32(1))),
    (jnp.bfloat16(1), jnp.asarray(1, jnp.bfloat16)),
    (jnp.array(0), 0),
    (1, True),
    (jr.key(0), jr.key(0)),
    ((), []),
    (jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.float32)),
]


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("options", [{}, {"typematch": True}, {"rtol": 0.1}])
def test_value_and_kind_of_answer_are_those_of_equinox(a, b, options):
    equinox = pytest.importorskip("equinox")
    got, want = eqx_core.tree_equal(a, b, **options), equinox.tree_equal(a, b, **options)
    assert isinstance(got, jax.Array) == isinstance(want, jax.Array)
    assert bool(got) == bool(want)
