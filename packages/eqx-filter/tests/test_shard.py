"""`filter_shard` puts arrays on devices and leaves the rest alone."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import eqx_core
from eqx_filter import filter_jit, filter_shard

AXIS_TYPES = pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
P = PartitionSpec
needs_two = pytest.mark.skipif(len(jax.devices()) < 2, reason="needs two devices")


class Model(eqx_core.Module):
    weight: jax.Array
    activation: object
    name: str = eqx_core.field(static=True)


def mesh_of(axis_type, count=None):
    return Mesh(np.array(jax.devices()[:count]), ("x",), axis_types=(axis_type,))


@needs_two
def test_arrays_move_to_a_device_and_are_committed():
    for device in jax.devices()[:2]:
        for x in (jnp.ones(2), np.ones(2, np.float32), jr.key(0), jax.device_put(jnp.ones(2), jax.devices()[1])):
            out = filter_shard(x, device)
            assert out.devices() == {device}
            assert out.committed


def test_what_is_no_array_stays():
    model = Model(jnp.ones(2), jax.nn.relu, "model")
    out, *rest = filter_shard((model, 1, 1.0, "text", None), jax.devices()[0])
    assert (out.activation, out.name, rest) == (jax.nn.relu, "model", [1, 1.0, "text", None])
    assert out.weight.committed


@AXIS_TYPES
def test_arrays_are_distributed_inside_and_outside_of_jit(axis_type):
    mesh = mesh_of(axis_type)
    sharding = NamedSharding(mesh, P("x"))
    x = jnp.arange(8.0)
    eager = filter_shard((x, "text"), sharding)
    assert eager[0].sharding.is_equivalent_to(sharding, 1)
    assert eager[1] == "text"
    with jax.set_mesh(mesh):
        for wrap in (jax.jit, filter_jit):
            out = wrap(lambda x: filter_shard({"x": 2 * x}, sharding)["x"] + 0)(x)
            assert out.sharding.is_equivalent_to(sharding, 1)
            np.testing.assert_array_equal(out, 2 * np.asarray(x))


@AXIS_TYPES
def test_a_specification_is_for_the_mesh_that_is_set(axis_type):
    mesh = mesh_of(axis_type)
    with jax.set_mesh(mesh):
        out = jax.jit(lambda x: filter_shard(x, P("x")))(jnp.arange(8.0))
    assert out.sharding.is_equivalent_to(NamedSharding(mesh, P("x")), 1)


@AXIS_TYPES
def test_it_is_the_identity_for_derivatives(axis_type):
    mesh = mesh_of(axis_type)
    with jax.set_mesh(mesh):
        grad = jax.jit(jax.grad(lambda x: jnp.sum(filter_shard(x, NamedSharding(mesh, P("x"))) ** 2)))(jnp.arange(8.0))
    np.testing.assert_array_equal(grad, 2 * np.arange(8.0))


def test_it_works_on_mapped_arrays():
    device = jax.devices()[0]
    np.testing.assert_array_equal(jax.vmap(lambda x: filter_shard(x, device))(jnp.ones((2, 3))), np.ones((2, 3)))


@needs_two
def test_shardings_are_given_by_prefix_trees():
    first, second = jax.devices()[:2]
    places = {"a": first, "b": (SingleDeviceSharding(second), None)}
    x = jnp.ones(2)
    out = filter_shard({"a": [x, "text", None], "b": (x, [x])}, places)
    assert out["a"][0].devices() == {first}
    assert out["a"][1:] == ["text", None]
    assert out["b"][0].devices() == {second}
    assert out["b"][1][0] is x


def test_nothing_to_shard_is_no_error():
    assert filter_shard((), jax.devices()[0]) == ()
    assert filter_shard("text", jax.devices()[0]) == "text"


def test_a_structure_that_does_not_fit_is_refused():
    device = jax.devices()[0]
    with pytest.raises(ValueError, match=r"`filter_shard\(device_or_shardings=...\)` must have the structure of `x`"):
        filter_shard((jnp.ones(2),), (device, device))


def test_what_is_no_sharding_is_refused():
    with pytest.raises(TypeError, match=r"must consist of devices, shardings and None; got 'cpu'"):
        filter_shard(jnp.ones(2), "cpu")


def test_a_specification_without_a_mesh_is_refused():
    with pytest.raises(ValueError, match=r"must be a sharding where no mesh is set; got .*'x'"):
        filter_shard(jnp.ones(2), P("x"))


SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from eqx_filter import filter_shard, filter_jit
assert jax.device_count() == 8
devices = np.array(jax.devices()).reshape(4, 2)
x = jnp.arange(64.0).reshape(8, 8)
for kinds in [(AxisType.Auto,) * 2, (AxisType.Explicit,) * 2, (AxisType.Explicit, AxisType.Auto)]:
    mesh = Mesh(devices, ("x", "y"), axis_types=kinds)
    for spec in [P("x"), P(None, "x"), P(), P(None, None)] + ([P("x", "y"), P(("x", "y"))] if len(set(kinds)) == 1 else []):
        sharding = NamedSharding(mesh, spec)
        assert filter_shard(x, sharding).sharding.is_equivalent_to(sharding, 2)
        with jax.set_mesh(mesh):
            out = filter_jit(lambda x: (filter_shard(x + 1, sharding), "text"))(x)
            assert out[0].sharding.is_equivalent_to(sharding, 2), (kinds, spec, out[0].sharding)
            assert out[1] == "text"
            # From one distribution to another.
            again = jax.jit(lambda x: filter_shard(x, NamedSharding(mesh, P(None, "x"))))(out[0])
            assert again.sharding.is_equivalent_to(NamedSharding(mesh, P(None, "x")), 2)
            np.testing.assert_array_equal(again, np.asarray(x) + 1)
"""


def test_meshes_of_eight_devices_and_both_kinds_of_axes():
    flags = "--xla_force_host_platform_device_count=8"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    script = textwrap.dedent(SCRIPT)
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
