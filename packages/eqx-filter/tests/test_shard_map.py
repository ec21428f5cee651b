"""`filter_shard_map` against `jax.shard_map`; on eight devices in `test_sharding.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec as P

import eqx_core
import eqx_filter
from eqx_filter import filter_shard_map


class Model(eqx_core.Module):
    weight: jax.Array  # f32[]
    activation: object
    name: str = eqx_core.field(static=True, default="model")

    def __call__(self, x):
        return self.activation(self.weight * x)


MESH = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
X = jnp.arange(4.0)
MODEL = Model(jnp.float32(2), jnp.tanh)
TRANSFORMS = pytest.mark.parametrize("transform", [lambda f: f, eqx_filter.filter_jit], ids=["eager", "jit"])


@TRANSFORMS
def test_on_arrays_it_is_that_of_jax(transform):
    def fun(tree, y):
        return {"a": tree["x"] * y, "sum": jax.lax.psum(tree["x"].sum(), "x")}

    specs = {"mesh": MESH, "in_specs": (P("x"), P()), "out_specs": {"a": P("x"), "sum": P()}}
    arguments = {"x": X}, jnp.ones(1)
    ours, theirs = (transform(wrap(fun, **specs))(*arguments) for wrap in (filter_shard_map, jax.shard_map))
    assert jax.tree.map(lambda x: x.tolist(), ours) == jax.tree.map(lambda x: x.tolist(), theirs)
    assert jax.tree.map(lambda x: x.sharding, ours) == jax.tree.map(lambda x: x.sharding, theirs)


@TRANSFORMS
@pytest.mark.parametrize("in_specs", [(None, P("x"), None), [P(), P("x"), P()]])
def test_what_is_no_array_is_passed_and_returned_as_it_is(transform, in_specs):
    def fun(model, x, options):
        assert x.shape == (2,)
        assert options == {"n": 1}
        return model(x), model.activation, "text"

    mapped = filter_shard_map(fun, mesh=MESH, in_specs=in_specs, out_specs=(P("x"), None, P("x")))
    y, activation, text = transform(mapped)(MODEL, X, {"n": 1})
    np.testing.assert_allclose(y, jnp.tanh(2 * X), rtol=1e-6)
    assert (activation, text) == (jnp.tanh, "text")


@TRANSFORMS
def test_the_function_may_be_a_module(transform):
    out = transform(filter_shard_map(MODEL, mesh=MESH, in_specs=P("x"), out_specs=P("x")))(X)
    np.testing.assert_allclose(out, jnp.tanh(2 * X), rtol=1e-6)


@TRANSFORMS
def test_it_is_differentiated(transform):
    def loss(model, x):
        fun = filter_shard_map(lambda model, x: model(x), mesh=MESH, in_specs=(None, P("x")), out_specs=P("x"))
        return fun(model, x).sum() + filter_shard_map(model, mesh=MESH, in_specs=P("x"), out_specs=P("x"))(x).sum()

    grads = transform(eqx_filter.filter_grad(loss))(MODEL, X)
    by_hand = jax.grad(lambda w: 2 * jnp.tanh(w * X).sum())(MODEL.weight)
    np.testing.assert_allclose(grads.weight, by_hand, rtol=1e-6)


def test_it_is_mapped_by_vmap():
    mapped = filter_shard_map(MODEL, mesh=MESH, in_specs=P("x"), out_specs=P("x"))
    np.testing.assert_allclose(jax.vmap(mapped)(jnp.stack([X, -X])), jnp.tanh(2 * jnp.stack([X, -X])), rtol=1e-6)


def test_it_is_a_decorator_also_of_methods():
    class Scaler(eqx_core.Module):
        by: jax.Array

        @filter_shard_map(mesh=MESH, in_specs=(None, P("x")), out_specs=P("x"))
        def scale(self, x):
            """Scale."""
            return self.by * x

    assert Scaler(jnp.float32(3)).scale(X).tolist() == (3 * X).tolist()
    assert Scaler.scale.__doc__ == "Scale."
    assert Scaler.scale.__name__ == "scale"


def test_it_is_a_pytree_of_what_it_wraps():
    mapped = filter_shard_map(MODEL, mesh=MESH, in_specs=P("x"), out_specs=P("x"))
    doubled = jax.tree.map(lambda x: 2 * x if eqx_core.is_array(x) else x, mapped)
    np.testing.assert_allclose(doubled(X), jnp.tanh(4 * X), rtol=1e-6)
    assert mapped.__wrapped__ == MODEL


@pytest.mark.parametrize("option", ["in_specs", "out_specs"])
def test_specs_must_be_specs(option):
    specs = {"in_specs": P("x"), "out_specs": P("x")} | {option: ("x",)}
    with pytest.raises(
        TypeError, match=rf"`filter_shard_map\({option}=...\)` must consist of .*; got an object of type `s"
    ):
        filter_shard_map(MODEL, mesh=MESH, **specs)


def test_specs_must_be_the_upper_part():
    with pytest.raises(ValueError, match=r"`filter_shard_map\(in_specs=...\)` must have the structure"):
        filter_shard_map(MODEL, mesh=MESH, in_specs=(P("x"), P()), out_specs=P("x"))(X)
    with pytest.raises(ValueError, match=r"`filter_shard_map\(out_specs=...\)` must have the structure"):
        filter_shard_map(MODEL, mesh=MESH, in_specs=P("x"), out_specs=(P("x"), P()))(X)


def test_there_are_no_keywords():
    with pytest.raises(RuntimeError, match=r"keyword arguments cannot be used with .* `filter_shard_map`.*; got x"):
        filter_shard_map(MODEL, mesh=MESH, in_specs=P("x"), out_specs=P("x"))(x=X)
