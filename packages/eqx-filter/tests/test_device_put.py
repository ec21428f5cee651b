"""`filter_device_put` against `jax.device_put`; on eight devices in `test_sharding.py`."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P, SingleDeviceSharding

import eqx_core
import eqx_filter
from eqx_filter import filter_device_put


class Model(eqx_core.Module):
    weight: object
    bias: object
    activation: object
    name: str = eqx_core.field(static=True, default="model")


FIRST, SECOND = jax.devices()[:2]


def _model():
    return Model(jnp.ones(4), np.zeros(2, np.float32), jnp.tanh)


def test_on_arrays_it_is_that_of_jax():
    arrays = [jnp.ones(2), np.zeros(3, np.float32), {"k": jr.key(0)}]
    for device in (None, SECOND, SingleDeviceSharding(SECOND), [SECOND, None, FIRST]):
        ours, theirs = filter_device_put(arrays, device), jax.device_put(arrays, device)
        assert jax.tree.map(lambda x: x.sharding, ours) == jax.tree.map(lambda x: x.sharding, theirs)
        assert [x.committed for x in jax.tree.leaves(ours)] == [x.committed for x in jax.tree.leaves(theirs)]


def test_arrays_move_and_the_rest_stays():
    moved = filter_device_put({"model": _model(), "n": 3, "s": "text"}, SECOND)
    assert moved["model"].weight.device == moved["model"].bias.device == SECOND
    assert moved["model"].weight.tolist() == [1.0] * 4
    assert (moved["model"].activation, moved["model"].name, moved["n"], moved["s"]) == (jnp.tanh, "model", 3, "text")


def test_a_prefix_says_where_each_part_goes():
    moved = filter_device_put((_model(), _model(), jnp.ones(2)), (SECOND, None, FIRST))
    assert [moved[0].weight.device, moved[0].bias.device, moved[2].device] == [SECOND, SECOND, FIRST]
    assert not moved[1].weight.committed
    assert filter_device_put((), SECOND) == ()


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_spec_is_that_of_the_mesh_in_use(kind):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        moved = filter_device_put(_model(), P("x"))
    assert moved.weight.sharding == moved.bias.sharding == NamedSharding(mesh, P("x"))


def test_it_works_under_jit_and_grad():
    model = filter_device_put(_model(), SECOND)
    moved = eqx_filter.filter_jit(lambda m: filter_device_put(m, SECOND))(model)
    assert (moved.weight.device, moved.activation) == (SECOND, jnp.tanh)
    grads = eqx_filter.filter_grad(lambda m: (filter_device_put(m, SECOND).weight ** 2).sum())(_model())
    assert grads.weight.tolist() == [2.0] * 4


@pytest.mark.parametrize("options", [{"donate": True}, {"may_alias": True}, {"may_alias": False}])
def test_the_options_are_those_of_jax(options):
    """Whether an array is donated or shared depends on the platform."""
    outcomes = []
    for put in (filter_device_put, jax.device_put):
        x = jax.device_put(jnp.ones(4), FIRST)
        moved = put([x], FIRST, **options)[0]
        outcomes.append((x.is_deleted(), x.is_deleted() or moved is x, moved.tolist()))
    assert outcomes[0] == outcomes[1]


def test_what_is_no_prefix_is_refused():
    with pytest.raises(ValueError, match=r"`filter_device_put\(device=...\)` must have the structure of the values"):
        filter_device_put((jnp.ones(2),), (FIRST, SECOND))
