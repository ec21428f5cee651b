"""Arrays that raise when they are read, of the types that a program would have returned."""

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import eqx_filter._unreadable

unreadable = eqx_filter._unreadable.unreadable


def fun(x):
    return {"x": x, "key": jr.key(0), "keys": jr.split(jr.key(0, impl="rbg"), 2), "n": x.astype(jnp.int8), "none": None}


def test_they_have_the_types_of_the_results_and_tell_why_they_cannot_be_read():
    x = jnp.ones((2, 3))
    good, bad = jax.jit(fun)(x), unreadable(jax.jit(fun).lower(x).compile(), "because of this")
    assert jax.tree.structure(good) == jax.tree.structure(bad)
    for a, b in zip(jax.tree.leaves(good), jax.tree.leaves(bad), strict=True):
        assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)
        with pytest.raises(jax.errors.JaxRuntimeError, match="because of this"):
            jax.block_until_ready(b)
    with pytest.raises(jax.errors.JaxRuntimeError, match="because of this"):
        jax.jit(lambda x: x + 1)(bad["x"]).block_until_ready()


def test_there_are_none_for_several_devices():
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices("cpu")[:2])
    x = jax.device_put(jnp.ones(2), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("i")))
    assert unreadable(jax.jit(lambda x: x + 1).lower(x).compile(), "text") is None
