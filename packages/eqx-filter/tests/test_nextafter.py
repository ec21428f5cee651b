import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from eqx_filter.internal import nextafter, prevbefore

BOTH = pytest.mark.parametrize(("ours", "towards"), [(nextafter, np.inf), (prevbefore, -np.inf)])
NORMAL = st.floats(width=32, allow_nan=False, allow_subnormal=False).filter(lambda x: abs(x) > 1e-37)


@BOTH
@given(x=NORMAL)
def test_it_is_the_neighbour_of_any_normal_number(ours, towards, x):
    with np.errstate(over="ignore"):
        expected = np.nextafter(np.float32(x), np.float32(towards))
    assert ours(jnp.array(x, jnp.float32)) == expected


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_zero_has_the_smallest_normal_numbers_beside_it(ours, towards, dtype):
    tiny = jnp.finfo(dtype).tiny * (1 if towards > 0 else -1)
    for zero in (0.0, -0.0):
        out = ours(jnp.array(zero, dtype))
        assert out.dtype == dtype
        assert float(out) == float(tiny)


@BOTH
def test_infinity_and_nan(ours, towards):
    assert ours(jnp.array(towards)) == towards
    assert ours(jnp.array(-towards)) == -np.sign(towards) * np.finfo(np.float32).max
    assert jnp.isnan(ours(jnp.array(jnp.nan)))


@BOTH
def test_the_derivative_is_one(ours, towards):
    x = jnp.array([1.0, 0.0, -2.0])
    assert jax.grad(ours)(1.0) == 1.0
    assert jax.jit(jax.vmap(jax.grad(ours)))(x).tolist() == [1.0, 1.0, 1.0]
    assert jax.vmap(jax.grad(jax.grad(ours)))(x).tolist() == [0.0, 0.0, 0.0]
    assert jax.jvp(ours, (x,), (2 * x,))[1].tolist() == (2 * x).tolist()


@BOTH
def test_it_works_under_transformations(ours, towards):
    x = np.array([[1.0, 2.0]], np.float32)
    expected = np.nextafter(x, np.float32(towards))
    for out in (ours(x), jax.jit(ours)(x), jax.vmap(ours)(x), ours(jnp.asarray(x))):
        np.testing.assert_array_equal(out, expected)
    assert isinstance(ours, jax.custom_jvp)
    assert ours(1.0) == np.nextafter(np.float32(1), np.float32(towards))


@BOTH
def test_float64_is_not_rounded(ours, towards):
    with jax.enable_x64(True):
        assert float(ours(jnp.array(1.0, jnp.float64))) == np.nextafter(1.0, towards)


@pytest.mark.parametrize(("ours", "name"), [(nextafter, "nextafter"), (prevbefore, "prevbefore")])
def test_integers_are_refused(ours, name):
    with pytest.raises(
        ValueError, match=rf"^`{name}\(x=\.\.\.\)` must have a floating-point dtype; got `int32`\. Conv"
    ):
        ours(jnp.array(1))
