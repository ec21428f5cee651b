import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_filter
from eqx_filter.internal import nonbatchable

TREE = {"x": jnp.ones(2), "n": 1, "s": "s", "np": np.ones(2), "none": None}
JITS = pytest.mark.parametrize("jit", [lambda f: f, jax.jit, eqx_filter.filter_jit])


def constant(x, **kwargs):
    return nonbatchable(x, allow_constant_across_batch=True, **kwargs)


@pytest.mark.parametrize("guard", [nonbatchable, constant])
def test_it_is_the_identity(guard):
    assert all(guard(TREE)[name] is value for name, value in TREE.items())
    assert jax.jit(lambda x: guard((x, "s"))[0])(1.0) == 1.0
    assert jax.vmap(lambda x, y: x * guard(y), (0, None))(jnp.ones(2), jnp.array(3.0)).tolist() == [3.0, 3.0]
    assert jax.eval_shape(guard, jnp.array(1.0)).shape == ()


@JITS
def test_a_batch_is_refused_when_it_is_traced(jit):
    with pytest.raises(ValueError, match=r"^Unexpected batch tracer\. This operation cannot be vmap'd\. This is prob"):
        jit(jax.vmap(nonbatchable))(jnp.ones(2))
    with pytest.raises(ValueError, match=r"^Unexpected batch tracer\. My loop cannot be vmap'd\."):
        jit(jax.vmap(lambda x: nonbatchable(x, name="My loop")))(jnp.ones(2))
    with pytest.raises(ValueError, match=r"^Not so\."):
        jit(jax.vmap(jax.vmap(lambda x: nonbatchable({"x": x}, msg="Not so."))))(jnp.ones((2, 2)))


@pytest.mark.parametrize("guard", [nonbatchable, constant])
def test_derivatives_pass_and_may_be_batched(guard):
    x = jnp.array([1.0, 2.0, 3.0])
    assert jax.grad(lambda x: guard(x) ** 2)(3.0) == 6.0
    assert jax.jvp(guard, (2.0,), (3.0,)) == (2.0, 3.0)
    for jacobian in (jax.jacfwd, jax.jacrev):
        np.testing.assert_array_equal(jacobian(lambda x: guard(x) ** 2)(x), np.diag([2.0, 4.0, 6.0]))
        np.testing.assert_array_equal(jax.jit(jacobian(guard))(x), np.eye(3))
    assert jax.linear_transpose(guard, 1.0)(2.0) == (2.0,)


@JITS
@pytest.mark.parametrize(
    "batch",
    [
        jnp.array([2.0, 2.0, 2.0]),
        jnp.array([1, 1]),
        jnp.array([jnp.nan, jnp.nan]),
        jr.split(jr.key(0), 2)[jnp.array([1, 1])],
    ],
    ids=["float", "int", "nan", "key"],
)
def test_a_batch_of_equal_values_becomes_one_of_them(jit, batch):
    out = jit(eqx_filter.filter_vmap(constant, out_axes=None))(batch)
    assert out.dtype == batch.dtype
    data = [jr.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in (out, batch[0])]
    np.testing.assert_array_equal(*data)


def test_the_axis_may_be_any():
    x = jnp.broadcast_to(jnp.arange(3.0)[:, None], (3, 4))
    assert jax.vmap(constant, 1, out_axes=None)(x).tolist() == [0.0, 1.0, 2.0]
    y = jnp.broadcast_to(jnp.arange(3.0)[None, :, None], (2, 3, 4))
    nested = jax.vmap(jax.vmap(constant, 1, out_axes=None), 0, out_axes=None)
    assert jax.jit(nested)(y).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "batch", [jnp.arange(2.0), jnp.array([1, 2]), jnp.array([1.0, jnp.nan]), jr.split(jr.key(0), 2)]
)
def test_a_batch_of_different_values_is_an_error_of_the_run(batch):
    mapped = eqx_filter.filter_jit(jax.vmap(lambda x: constant(x, name="My loop"), out_axes=None))
    with pytest.raises(RuntimeError, match=r"Nonconstant batch\. My loop has received a batch of values that were exp"):
        jax.block_until_ready(mapped(batch))
    worded = eqx_filter.filter_jit(jax.vmap(lambda x: constant(x, msg="Not so."), out_axes=None))
    with pytest.raises(RuntimeError, match=r"Not so\."):
        jax.block_until_ready(worded(batch))
