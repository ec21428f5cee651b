"""`filter_jit(in_shardings=, out_shardings=)` on eight devices, with either kind of axes.

The checks need eight devices, which a process must ask for before JAX starts: see `on_eight_devices`.
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
from eqx_filter import filter_grad, filter_jit, filter_shard, jitf

KINDS = ("Auto", "Explicit")


class Linear(eqx_core.Module):
    weight: jax.Array  # f32[out, in]
    bias: jax.Array  # f32[out]
    activation: object
    name: str = eqx_core.field(static=True, default="linear")

    def __call__(self, x):
        return self.activation(self.weight @ x + self.bias)


def _linear():
    return Linear(jr.normal(jr.key(0), (8, 8)), jnp.arange(8.0), jnp.tanh)


def _mesh(kind):
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType[kind],) * 2)


def _assert_sharded(array, mesh, *spec):
    assert array.sharding.is_equivalent_to(NamedSharding(mesh, P(*spec)), array.ndim), (array.sharding, spec)


def _collectives(jitted, *args):
    """Return how often each collective operation is in the compiled program."""
    text = jitted.lower(*args).compile().as_text()
    names = "all-gather|all-reduce|all-to-all|collective-permute|collective-broadcast|reduce-scatter"
    return dict(collections.Counter(re.findall(rf"\s({names})(?:-start)?\(", text)))


def check_a_batch_over_data_and_a_model_over_nothing(kind):
    mesh = _mesh(kind)
    data, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    jitted = filter_jit(
        lambda model, x: (jax.vmap(model)(x), model),
        in_shardings=(everywhere, data),
        out_shardings=(data, everywhere),
    )
    model, x = _linear(), np.asarray(jr.normal(jr.key(1), (8, 8)))
    y, out = jitted(model, x)
    _assert_sharded(y, mesh, "data")
    _assert_sharded(out.weight, mesh)
    _assert_sharded(out.bias, mesh)
    assert (out.activation, out.name) == (jnp.tanh, "linear")
    np.testing.assert_allclose(y, jax.vmap(model)(x), rtol=1e-4, atol=1e-5)
    assert _collectives(jitted, model, x) == {}


def check_a_prefix_reaches_into_the_model(kind):
    mesh = _mesh(kind)
    spec = Linear(NamedSharding(mesh, P("data", "model")), None, None)
    one = {"text": None, "x": NamedSharding(mesh, P("model"))}
    jitted = filter_jit(
        lambda model, x, n: (jax.tree.map(lambda leaf: leaf, x), model.weight * n),
        in_shardings=(spec, one, None),
        out_shardings=(None, spec.weight),
    )
    x = {"text": "text", "x": [jnp.arange(8.0), jnp.ones((2, 2))]}
    out, weight = jitted(_linear(), x, 2)
    assert out["text"] == "text"
    _assert_sharded(out["x"][0], mesh, "model")
    _assert_sharded(out["x"][1], mesh, "model")
    _assert_sharded(weight, mesh, "data", "model")
    assert weight.addressable_shards[0].data.shape == (2, 4)
    np.testing.assert_allclose(weight, 2 * np.asarray(_linear().weight))
    assert _collectives(jitted, _linear(), x, 2) == {}


def check_specs_are_for_the_mesh_that_is_set(kind):
    mesh = _mesh(kind)
    with jax.set_mesh(mesh):
        jitted = filter_jit(lambda x: {"y": 2 * x}, in_shardings=P("data"), out_shardings={"y": P("data")})
        out = jitted(np.arange(8.0, dtype=np.float32))
        _assert_sharded(out["y"], mesh, "data")
        assert _collectives(jitted, np.arange(8.0, dtype=np.float32)) == {}


def check_outputs_are_resharded_only_as_said(kind):
    mesh = _mesh(kind)
    data, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    jitted = filter_jit(lambda x: (x + 1, x * 2, "text"), in_shardings=data, out_shardings=(everywhere, data, None))
    first, second, text = jitted(jnp.arange(8.0))
    _assert_sharded(first, mesh)
    _assert_sharded(second, mesh, "data")
    assert text == "text"
    assert first.tolist() == (np.arange(8.0) + 1).tolist()
    assert _collectives(jitted, jnp.arange(8.0)) == {"all-gather": 1}


def check_it_is_what_jax_jit_does_on_arrays_that_are_in_place(kind):
    mesh = _mesh(kind)
    ins = NamedSharding(mesh, P("data")), NamedSharding(mesh, P(None, "model"))
    outs = NamedSharding(mesh, P("model"))
    fun = lambda x, y: y * 2 + x[:, None]  # noqa: E731
    args = jnp.arange(8.0), jnp.ones((8, 8))
    with jax.set_mesh(mesh):
        ours = filter_jit(fun, in_shardings=ins)(*args)
        theirs = jax.jit(fun)(*jax.device_put(args, ins))
        assert ours.sharding.is_equivalent_to(theirs.sharding, 2)
        ours = filter_jit(lambda x: x * 2, in_shardings=outs, out_shardings=outs)(args[0])
        theirs = jax.jit(lambda x: x * 2, out_shardings=outs)(jax.device_put(args[0], outs))
    assert ours.sharding.is_equivalent_to(theirs.sharding, 1)
    assert ours.tolist() == theirs.tolist()


def check_arrays_that_are_elsewhere_are_refused_as_by_jax_jit(kind):
    mesh = _mesh(kind)
    x = filter_shard(jnp.arange(8.0), NamedSharding(mesh, P("data")))
    jitted = filter_jit(lambda x: x, in_shardings=NamedSharding(mesh, P("model")))
    with pytest.raises(ValueError, match="does not match the sharding on the respective arg"):
        jitted(x)


def check_gradients_donation_and_arguments_by_name(kind):
    mesh = _mesh(kind)
    spec, data = NamedSharding(mesh, P("model")), NamedSharding(mesh, P("data"))
    loss = lambda model, x: jnp.sum(model.weight @ x + model.bias)  # noqa: E731
    if kind == "Explicit":  # There the contraction has to say where its result is.
        loss = lambda model, x: jnp.sum(model.weight * x[None]) + jnp.sum(model.bias)  # noqa: E731
    step = filter_jit(filter_grad(loss), in_shardings=(spec, None), out_shardings=spec, donate="all-except-first")
    model, x = _linear(), np.ones(8, np.float32)
    with jax.set_mesh(mesh):
        grads = step(model, x=x)
    _assert_sharded(grads.weight, mesh, "model")
    _assert_sharded(grads.bias, mesh, "model")
    np.testing.assert_allclose(grads.weight, np.ones((8, 8)))
    batch = filter_jit(lambda self, *, x: (x * 2, self), in_shardings=data, out_shardings=data)
    out, n = batch(3, x=jnp.arange(8.0))
    assert n == 3
    _assert_sharded(out, mesh, "data")


def check_a_method_counts_self(kind):
    mesh = _mesh(kind)
    data = NamedSharding(mesh, P("data"))

    class Scale(eqx_core.Module):
        by: jax.Array

        @filter_jit(in_shardings=(NamedSharding(mesh, P()), data), out_shardings=data)
        def __call__(self, x):
            return self.by * x

    out = Scale(jnp.array(2.0))(jnp.arange(8.0))
    _assert_sharded(out, mesh, "data")
    assert out.tolist() == (2 * np.arange(8.0)).tolist()


def check_single_leaves_can_be_traced_and_placed(kind):
    mesh = _mesh(kind)
    data = NamedSharding(mesh, P("data"))
    fun = jitf(lambda x, n: x * n, filter_tree=(True, False), in_shardings=(data, None), out_shardings=data)
    out = fun(jnp.arange(8.0), 2)
    _assert_sharded(out, mesh, "data")


def check_compiled_ahead_of_time(kind):
    mesh = _mesh(kind)
    data = NamedSharding(mesh, P("data"))
    jitted = filter_jit(lambda model: model, in_shardings=data, out_shardings=data)
    shape = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    model = Linear(shape, jax.ShapeDtypeStruct((8,), jnp.float32), jnp.tanh)
    compiled = jitted.lower(model).compile()
    out = compiled(filter_shard(_linear(), data))
    _assert_sharded(out.weight, mesh, "data")


CHECKS = sorted(name for name in globals() if name.startswith("check_"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS)
def test_on_eight_devices(check, kind, on_eight_devices):
    assert on_eight_devices[f"{check}-{kind}"] == "passed"


def test_the_same_shardings_share_one_trace():
    count = []

    def fun(x):
        count.append(None)
        return x

    one = NamedSharding(jax.make_mesh((1,), ("a",), axis_types=(AxisType.Auto,)), P())
    for shardings in ({"x": one}, {"x": one}, {"x": None}):
        filter_jit(fun, in_shardings=(shardings,))({"x": jnp.ones(2)})
    assert len(count) == 2
    trees = [jax.tree.structure(filter_jit(fun, in_shardings=({"x": one},))) for _ in range(2)]
    assert len(set(trees)) == 1


def test_a_leaf_that_is_no_sharding_is_an_error():
    for option in ("in_shardings", "out_shardings"):
        with pytest.raises(
            TypeError, match=rf"`filter_jit\({option}=\.\.\.\)` must consist of shardings, .*; got 'a'\."
        ):
            filter_jit(lambda x: x, **{option: (None, "a")})


def test_another_structure_is_an_error():
    x = {"a": jnp.ones(2), "b": 1}
    with pytest.raises(ValueError, match=r"`filter_jit\(in_shardings=\.\.\.\)` must have the structure"):
        filter_jit(lambda x: x, in_shardings=({"c": None},))(x)
    with pytest.raises(ValueError, match=r"`filter_jit\(in_shardings=\.\.\.\)` must have the structure"):
        filter_jit(lambda x, y: x, in_shardings=(None,))(x, x)
    with pytest.raises(ValueError, match=r"`filter_jit\(out_shardings=\.\.\.\)` must have the structure"):
        filter_jit(lambda x: x, out_shardings=(None, None))(x)
