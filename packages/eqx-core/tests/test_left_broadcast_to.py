"""left_broadcast_to lines axes up on the left: NumPy's rule, read backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from eqx_core.internal import left_broadcast_to

shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@given(shapes, st.data())
def test_it_is_numpy_broadcasting_of_the_transpose(shape, data):
    rank = data.draw(st.integers(0, len(shape)))
    have = tuple(n if data.draw(st.booleans()) else 1 for n in shape[:rank])
    x = np.arange(np.prod(have, dtype=int), dtype=np.float32).reshape(have)
    expected = np.broadcast_to(x.T, shape[::-1]).T
    np.testing.assert_array_equal(left_broadcast_to(jnp.asarray(x), shape), expected)
    np.testing.assert_array_equal(left_broadcast_to(x, shape), expected)


@pytest.mark.parametrize(("have", "want"), [((2,), ()), ((2, 3), (2,)), ((2,), (3, 2)), ((2, 3), (2, 4, 3))])
def test_shapes_that_do_not_fit_are_refused(have, want):
    with pytest.raises(ValueError, match=r"`left_broadcast_to\(arr=...\)` must have the lengths of the first axes"):
        left_broadcast_to(jnp.ones(have), want)


def test_scalars_and_dtypes_are_kept():
    assert left_broadcast_to(1.0, (2, 3)).shape == (2, 3)
    assert left_broadcast_to(jnp.ones(2, jnp.bfloat16), (2, 3)).dtype == jnp.bfloat16
    assert left_broadcast_to(jnp.arange(2), [2, 3]).dtype == jnp.arange(2).dtype


def test_transforms_see_through_it():
    def f(x):
        return left_broadcast_to(x, (2, 3))

    x = jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(jax.jit(f)(x), [[1, 1, 1], [2, 2, 2]])
    np.testing.assert_array_equal(jax.grad(lambda x: f(x).sum())(x), [3, 3])
    assert jax.vmap(f)(jnp.ones((5, 2))).shape == (5, 2, 3)
    assert jax.eval_shape(f, jax.ShapeDtypeStruct((2,), jnp.float32)).shape == (2, 3)
