import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

import eqx_filter
from eqx_filter.internal import finalise_jaxpr, unvmap_all, unvmap_any, unvmap_max

REDUCTIONS = pytest.mark.parametrize(
    ("ours", "numpys"), [(unvmap_all, np.all), (unvmap_any, np.any), (unvmap_max, np.max)]
)
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=3)


@REDUCTIONS
@given(x=hnp.arrays(np.float32, SHAPES, elements=hnp.from_dtype(np.dtype("f4"), allow_subnormal=False)))
def test_all_axes_are_reduced_whichever_are_mapped(ours, numpys, x):
    expected = numpys(x)
    np.testing.assert_array_equal(ours(x), expected)
    for in_axes in (0, 1, 2):
        mapped = jax.vmap(ours, in_axes, out_axes=None)
        np.testing.assert_array_equal(mapped(x), expected)
        np.testing.assert_array_equal(jax.vmap(mapped, 1, out_axes=None)(x[None]), expected)


@REDUCTIONS
def test_the_result_is_not_batched(ours, numpys):
    jaxpr = jax.make_jaxpr(jax.vmap(lambda x: jax.lax.cond(ours(x > 1), jnp.sin, jnp.cos, x)))(jnp.arange(3.0))
    assert "cond" in str(jaxpr)
    assert "select" not in str(jaxpr)


@REDUCTIONS
def test_it_works_in_programs(ours, numpys):
    x = np.array([[True, False], [True, True]])
    assert jax.jit(ours)(x) == numpys(x)
    assert jax.jit(jax.vmap(ours, out_axes=None))(x) == numpys(x)
    assert jax.eval_shape(ours, x) == jax.ShapeDtypeStruct((), np.bool_)
    assert jax.lax.scan(lambda c, row: (c, ours(row)), 0, x)[1].tolist() == [numpys(row) for row in x]
    assert eqx_filter.filter_vmap(ours, out_axes=None)(jnp.asarray(x)) == numpys(x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_the_largest_has_the_dtype_of_its_argument(dtype):
    x = jnp.array([0, 1], dtype)
    assert jax.jit(jax.vmap(unvmap_max, out_axes=None))(x).dtype == dtype
    assert unvmap_max(x) == x[1]


def test_numbers_count_as_truth_values():
    assert unvmap_any(np.array([0, 2]))
    assert not unvmap_all(np.array([0.0, 2.0]))
    assert unvmap_any(True)
    assert not unvmap_any(jnp.zeros(0))
    assert unvmap_all(jnp.zeros(0))
    assert unvmap_max(3) == 3
    assert unvmap_max(2.5) == 2.5
    assert jnp.isnan(unvmap_max(jnp.array([1.0, jnp.nan])))


def test_there_is_no_derivative():
    with pytest.raises(NotImplementedError, match="unvmap_max"):
        jax.grad(unvmap_max)(1.0)
    # What compares has none to begin with.
    assert jax.grad(lambda x: jnp.where(unvmap_any(x > 0), 2 * x, x))(1.0) == 2.0


def test_the_names_of_axes_do_not_matter():
    assert jax.vmap(lambda x: unvmap_max(x), out_axes=None, axis_name="i")(jnp.arange(3.0)) == 2.0
    assert jax.vmap(lambda x: unvmap_max(jnp.ones(2)), out_axes=None, axis_name="i")(jnp.arange(3.0)) == 1.0


@REDUCTIONS
def test_they_are_finalised(ours, numpys):
    x = jnp.array([[True, False]])
    jaxpr = finalise_jaxpr(jax.make_jaxpr(jax.vmap(ours, out_axes=None))(x))
    assert "unvmap" not in str(jaxpr)
    assert jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, x) == [numpys(x)]
