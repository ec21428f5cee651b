"""Leaves go straight to the shards that `like` asks for."""

import io
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_serialise

EIGHT_DEVICES = """
import sys
import jax, jax.numpy as jnp, jax.random as jr, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import eqx_serialise

jax.config.update("jax_num_cpu_devices", 8)
path = sys.argv[1]

def mesh(*shape):
    return jax.make_mesh(shape, ("x", "y")[: len(shape)], axis_types=(AxisType.Auto,) * len(shape))

tree = {"w": jnp.arange(64.0).reshape(8, 8), "b": jnp.arange(8.0), "k": jr.split(jr.key(1), 8), "s": 0.5}
specs = {"w": P("x", "y"), "b": P("y"), "k": P("x"), "s": None}

def abstract(mesh, specs):
    shapes = jax.eval_shape(lambda: {name: tree[name] for name in "wbk"})
    like = {
        name: jax.ShapeDtypeStruct(shapes[name].shape, shapes[name].dtype, sharding=NamedSharding(mesh, specs[name]))
        for name in shapes
    }
    return like | {"s": 0.0}

def check(loaded, mesh, specs):
    for name in "wbk":
        # JAX spells the sharding of keys with an axis more or less.
        assert loaded[name].sharding.is_equivalent_to(NamedSharding(mesh, specs[name]), loaded[name].ndim), name
        assert len(loaded[name].sharding.device_set) == mesh.size
    assert loaded["w"].addressable_shards[0].data.shape == tuple(
        8 // mesh.shape[axis] if axis else 8 for axis in (*specs["w"], None, None)[:2]
    )
    np.testing.assert_array_equal(loaded["w"], tree["w"])
    np.testing.assert_array_equal(loaded["b"], tree["b"])
    np.testing.assert_array_equal(jr.key_data(loaded["k"]), jr.key_data(tree["k"]))
    assert loaded["s"] == 0.5

# From one device to a mesh, from there to another mesh, to half of the devices, and back to one.
eqx_serialise.save(path, tree)
for shape, specs in [
    ((4, 2), {"w": P("x", "y"), "b": P("y"), "k": P("x")}),
    ((8,), {"w": P("x"), "b": P(), "k": P("x")}),
    ((2, 2), {"w": P(None, "x"), "b": P("x"), "k": P()}),
]:
    for mmap in (False, True):
        loaded = eqx_serialise.load(path, abstract(mesh(*shape), specs), mmap=mmap)
        check(loaded, mesh(*shape), specs)
        again = eqx_serialise.load(path, loaded)
        check(again, mesh(*shape), specs)
    del loaded, again
    eqx_serialise.save(path + "2", eqx_serialise.load(path, abstract(mesh(*shape), specs)))
    path += "2"
    same = eqx_serialise.load(path, tree)
    np.testing.assert_array_equal(same["w"], tree["w"])
    assert len(same["w"].sharding.device_set) == 1
print("done")
"""


def test_a_tree_moves_from_mesh_to_mesh(tmp_path):
    command = [sys.executable, "-W", "error", "-c", EIGHT_DEVICES, str(tmp_path / "model")]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


def test_a_sharding_that_does_not_fit_is_named_with_its_leaf(saved):
    if len(jax.devices()) < 2:
        pytest.skip("One device is no choice.")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    like = {"a": jnp.ones(3), "b": jax.ShapeDtypeStruct((3,), jnp.float32, sharding=sharding)}
    content = saved({"a": jnp.ones(3), "b": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"must have shardings that fit .*; got `NamedSharding.*` at `\['b'\]`"):
        eqx_serialise.load(io.BytesIO(content), like)


def test_loading_within_jit_gives_constants(saved):
    content = saved({"w": jnp.arange(3.0), "n": 2})
    loaded = jax.jit(lambda like: eqx_serialise.load(io.BytesIO(content), {"w": like, "n": 0})["w"])(jnp.zeros(3))
    np.testing.assert_array_equal(loaded, [0, 1, 2])
