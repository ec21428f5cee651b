"""On eight devices: how each output is sharded, and that no device asks another for what the specs do not ask for.

The checks need eight devices, which a process must ask for before JAX starts: see `on_eight_devices`. Each runs with either kind of axes: which is the default depends on the JAX version.
"""

import collections
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import eqx_core
import eqx_filter
from eqx_filter import filter_cond, filter_device_put, filter_fori_loop, filter_scan, filter_shard_map, filter_switch

KINDS = ("Auto", "Explicit")


class Linear(eqx_core.Module):
    weight: jax.Array  # f32[out, in]
    activation: object
    name: str = eqx_core.field(static=True, default="linear")

    def __call__(self, x):
        return self.activation(self.weight @ x)

    def scale(self, x):
        return self.activation(self.weight[0, 0] * x)


def _linear(seed=0, size=8):
    return Linear(jr.normal(jr.key(seed), (size, size)), jnp.tanh)


def _mesh(kind):
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType[kind],) * 2)


def _collectives(fun, *args):
    """Return how often each collective operation is in the compiled program."""
    arrays, rest = eqx_filter.partition(args, eqx_core.is_array)

    def on_arrays(arrays):
        return eqx_filter.filter(fun(*eqx_filter.combine(arrays, rest)), eqx_core.is_array)

    text = jax.jit(on_arrays).lower(arrays).compile().as_text()
    names = "all-gather|all-reduce|all-to-all|collective-permute|collective-broadcast|reduce-scatter"
    return dict(collections.Counter(re.findall(rf"\s({names})(?:-start)?\(", text)))


def _assert_sharded(array, mesh, spec):
    assert array.sharding.is_equivalent_to(NamedSharding(mesh, spec), array.ndim), (array.sharding, spec)


def check_the_search_for_collectives_finds_one(kind):
    mesh = _mesh(kind)
    with jax.set_mesh(mesh):
        x = filter_device_put(jnp.arange(8.0), P("data"))
        assert _collectives(lambda x: x.sum(), x) == {"all-reduce": 1}


def check_device_put(kind):
    mesh = _mesh(kind)
    tree = {
        "m": Linear(np.ones((8, 8), np.float32), jnp.tanh),
        "k": jr.split(jr.key(0), 8),
        "b": jnp.ones(3),
        "s": "text",
    }
    spec = NamedSharding(mesh, P("model"))
    out = filter_device_put(tree, {"m": NamedSharding(mesh, P("data", "model")), "k": spec, "b": None, "s": spec})
    _assert_sharded(out["m"].weight, mesh, P("data", "model"))
    _assert_sharded(out["k"], mesh, P("model"))
    assert out["m"].weight.addressable_shards[0].data.shape == (2, 4)
    assert not out["b"].committed
    assert (out["m"].activation, out["m"].name, out["s"]) == (jnp.tanh, "linear", "text")


def check_shard_map_over_data(kind):
    mesh = _mesh(kind)
    model, x = _linear(), jr.normal(jr.key(1), (8, 8))

    def fun(model, x):
        assert x.shape == (2, 8)
        return jax.vmap(model)(x), model.activation

    mapped = filter_shard_map(fun, mesh=mesh, in_specs=(None, P("data")), out_specs=(P("data"), None))
    sharded = filter_device_put((model, x), (NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))))
    for transform in (lambda f: f, eqx_filter.filter_jit):
        y, activation = transform(mapped)(*sharded)
        assert activation is jnp.tanh
        _assert_sharded(y, mesh, P("data"))
        np.testing.assert_allclose(y, jax.vmap(model)(x), rtol=1e-5)
    assert _collectives(mapped, *sharded) == {}


def check_shard_map_of_a_sharded_model(kind):
    mesh = _mesh(kind)
    model, x = _linear(), jr.normal(jr.key(1), (8,))

    def fun(model, x):
        assert model.weight.shape == (8, 4)
        return model.activation(jax.lax.psum(model.weight @ x, "model"))

    mapped = filter_shard_map(fun, mesh=mesh, in_specs=(P(None, "model"), P("model")), out_specs=P())
    sharded = filter_device_put((model, x), (NamedSharding(mesh, P(None, "model")), NamedSharding(mesh, P("model"))))
    y = eqx_filter.filter_jit(mapped)(*sharded)
    _assert_sharded(y, mesh, P())
    np.testing.assert_allclose(y, model(x), rtol=1e-5, atol=1e-6)
    assert _collectives(mapped, *sharded) == {"all-reduce": 1}


def check_gradient_of_shard_map(kind):
    mesh = _mesh(kind)
    model, x = _linear(), jr.normal(jr.key(1), (8, 8))
    mapped = filter_shard_map(
        lambda model, x: jax.lax.pmean(jnp.mean(jax.vmap(model)(x) ** 2), "data"),
        mesh=mesh,
        in_specs=(None, P("data")),
        out_specs=P(),
    )
    step = eqx_filter.filter_value_and_grad(mapped)
    sharded = filter_device_put((model, x), (NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))))
    with jax.set_mesh(mesh):
        loss, grads = eqx_filter.filter_jit(step)(*sharded)
        found = _collectives(step, *sharded)
    _assert_sharded(loss, mesh, P())
    _assert_sharded(grads.weight, mesh, P())
    expected, by_hand = eqx_filter.filter_value_and_grad(lambda model, x: jnp.mean(jax.vmap(model)(x) ** 2))(model, x)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(grads.weight, by_hand.weight, rtol=1e-4, atol=1e-6)
    # Of the loss and of the gradient; XLA may make one of the two.
    assert found.keys() == {"all-reduce"}
    assert found["all-reduce"] <= 2


def check_shard_map_takes_arrays_as_they_are_sharded(kind):
    mesh = _mesh(kind)
    with jax.set_mesh(mesh):
        model = filter_device_put(_linear(), P("data", "model"))
        x = filter_device_put(jnp.arange(8.0), P("data"))
        mapped = filter_shard_map(lambda model, x: (model, 2 * x), out_specs=(P("data", "model"), P("data")))
        if kind == "Auto":
            # Then JAX does not know how they are sharded while it traces.
            with pytest.raises(TypeError, match="in_specs"):
                mapped(model, x)
            return
        out, y = eqx_filter.filter_jit(mapped)(model, x)
        _assert_sharded(out.weight, mesh, P("data", "model"))
        _assert_sharded(y, mesh, P("data"))
        assert (out.activation, y.tolist()) == (jnp.tanh, (2 * np.arange(8.0)).tolist())
        assert _collectives(mapped, model, x) == {}


def check_scan(kind):
    mesh = _mesh(kind)
    with jax.set_mesh(mesh):
        layers = eqx_filter.filter_vmap(_linear)(jnp.arange(3))
        layers = filter_device_put(layers, P())
        x = filter_device_put(jnp.ones((8, 8)), P("data"))

        def run(x, layers):
            return filter_scan(lambda c, layer: ((layer.scale(c[0]), c[1]), c[0]), (x, layers.activation), layers)

        (last, activation), outs = eqx_filter.filter_jit(run)(x, layers)
        assert activation is jnp.tanh
        _assert_sharded(last, mesh, P("data"))
        _assert_sharded(outs, mesh, P(None, "data"))
        assert _collectives(run, x, layers) == {}


def check_fori_loop(kind):
    mesh = _mesh(kind)
    with jax.set_mesh(mesh):
        model = filter_device_put(_linear(), P("data", "model"))

        def run(model):
            grow = lambda i, m: eqx_core.tree_at(lambda m: m.weight, m, m.weight * 2)  # noqa: E731
            return filter_fori_loop(0, 3, grow, model)

        out = eqx_filter.filter_jit(run)(model)
        _assert_sharded(out.weight, mesh, P("data", "model"))
        assert out.activation is jnp.tanh
        assert _collectives(run, model) == {}


def check_cond_and_switch(kind):
    mesh = _mesh(kind)
    with jax.set_mesh(mesh):
        models = filter_device_put([_linear(0), _linear(1)], P())
        x = filter_device_put(jnp.ones((8, 8)), P("data"))

        def run(flag, models, x):
            scales = [model.scale for model in models]
            return filter_cond(flag, *scales, x), filter_switch(flag.astype(int), scales, x)

        flag = jnp.asarray(False)
        first, second = eqx_filter.filter_jit(run)(flag, models, x)
        _assert_sharded(first, mesh, P("data"))
        _assert_sharded(second, mesh, P("data"))
        np.testing.assert_allclose(first, models[1].scale(x), rtol=1e-5)
        np.testing.assert_allclose(second, models[0].scale(x), rtol=1e-5)
        assert _collectives(run, flag, models, x) == {}


def check_a_carry_that_changes_its_sharding_is_named_by_path(kind):
    mesh = _mesh(kind)
    with jax.set_mesh(mesh):
        x = filter_device_put(jnp.ones(8), P("data"))

        if kind == "Auto":
            # Then it is not part of the carry's type.
            move = lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P("model")))  # noqa: E731
            last, _ = filter_scan(lambda c, _: (c | {"x": move(c["x"])}, None), {"x": x, "s": "text"}, length=2)
            assert last["x"].tolist() == [1.0] * 8
            return
        move = lambda x: jax.sharding.reshard(x, P("model"))  # noqa: E731
        with pytest.raises(TypeError, match=r"carry\['x'\]: sharding .*'data'.* became .*'model'.*\n.*jax.sharding.re"):
            filter_scan(lambda c, _: (c | {"x": move(c["x"])}, None), {"x": x, "s": "text"}, length=2)


CHECKS = sorted(name for name in globals() if name.startswith("check_"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS)
def test_on_eight_devices(check, kind, on_eight_devices):
    assert on_eight_devices[f"{check}-{kind}"] == "passed"
