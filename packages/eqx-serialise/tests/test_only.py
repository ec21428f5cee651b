"""A part of the leaves can be loaded, and the rest stays."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
import eqx_serialise


class Net(eqx_core.Module):
    layers: list
    layers2: jax.Array
    size: int = eqx_core.field(static=True, default=1)


def net(value, size=1):
    return Net([{"w": jnp.full(2, value), "b": value}, {"w": jnp.full(2, value), "b": value}], jnp.full(1, value), size)


def loaded(saved, only, tree=None, like=None, **kwargs):
    """Return the names of the leaves that were loaded."""
    like = net(0.0) if like is None else like
    tree = eqx_serialise.load(io.BytesIO(saved(net(1.0) if tree is None else tree)), like, only=only, **kwargs)
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return {name.removeprefix(".") for name, leaf in leaves.items() if np.all(np.asarray(leaf) == 1)}


ALL = {"layers[0]['w']", "layers[0]['b']", "layers[1]['w']", "layers[1]['b']", "layers2"}


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (None, ALL),
        (".", ALL),
        ("*", ALL),
        ("layers", ALL - {"layers2"}),
        ("layers2", {"layers2"}),
        ("layers?", {"layers2"}),
        ("layers[1]", {"layers[1]['w']", "layers[1]['b']"}),
        ("layers[*]['w']", {"layers[0]['w']", "layers[1]['w']"}),
        ("layers[?]", ALL - {"layers2"}),
        (["layers2", "layers[0]['b']"], {"layers2", "layers[0]['b']"}),
        (lambda name: name.endswith("['b']"), {"layers[0]['b']", "layers[1]['b']"}),
        (lambda name: False, set()),
        ([], set()),
    ],
)
def test_what_is_picked_is_loaded_and_nothing_else(saved, only, names):
    assert loaded(saved, only) == names


def test_what_is_not_picked_may_differ(saved):
    like = Net([{"w": jnp.zeros(2), "b": 0.0}, {"w": jnp.zeros(7), "new": 0.0}], jnp.zeros(3), size=5)
    assert loaded(saved, "layers[0]", like=like) == {"layers[0]['w']", "layers[0]['b']"}


def test_what_is_picked_must_be_the_same(saved):
    like = Net([{"w": jnp.zeros(3), "x": 0.0}], jnp.zeros(1))
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        loaded(saved, "layers[0]", like=like)
    assert "layers[0]['x']: Python float" in str(error.value)
    assert "layers[0]['b']: Python float" in str(error.value)
    assert "layers[0]['w']: f32[2] in the file, f32[3]" in str(error.value)
    assert "layers[1]" not in str(error.value)


def test_static_values_of_what_is_picked_must_be_the_same(saved):
    with pytest.raises(eqx_serialise.CheckpointError, match="size: 1 in the file, 2 in"):
        loaded(saved, "*", like=net(0.0, size=2))
    assert loaded(saved, "layers2", like=net(0.0, size=2)) == {"layers2"}


def test_damage_in_what_is_not_picked_is_none(saved):
    content = bytearray(saved({"a": jnp.ones(16), "b": jnp.ones(16)}))
    content[-1] ^= 1
    like = {"a": jnp.zeros(16), "b": jnp.zeros(16)}
    back = eqx_serialise.load(io.BytesIO(bytes(content)), like, only="['a']")
    assert back["a"][0] == 1
    with pytest.raises(eqx_serialise.CheckpointError, match=r"other values for `\['b'\]`"):
        eqx_serialise.load(io.BytesIO(bytes(content)), like, only="['b']")


def test_only_what_is_picked_is_read(saved):
    class Counting(io.BytesIO):
        count = 0

        def readinto(self, buffer):
            self.count += len(buffer)
            return super().readinto(buffer)

    tree = {"large": np.ones(10**6), "small": np.ones(2)}
    file = Counting(saved(tree))
    eqx_serialise.load(file, tree, only="['small']")
    assert file.count < 3000
    assert file.read() == b""


def test_the_rest_may_stay_shapes(saved):
    like = jax.eval_shape(lambda: {"a": jnp.ones(2), "b": jnp.ones(2)})
    back = eqx_serialise.load(io.BytesIO(saved({"a": jnp.ones(2), "b": jnp.ones(2)})), like, only="['a']")
    assert isinstance(back["b"], jax.ShapeDtypeStruct)
    assert isinstance(back["a"], jax.Array)


@pytest.mark.parametrize(
    ("only", "error", "match"),
    [
        (3, TypeError, r"`load\(only=...\)` must be a path such as .*; got `int`. Write"),
        ([3], TypeError, r"must be a path such as .*; got `int`"),
        ("layer", ValueError, r"must pick leaves of `like`; got `layer`, which picks none. The nearest is `layers`."),
        (["layers", "x*"], ValueError, r"got `x\*`, which picks none"),
    ],
)
def test_what_picks_nothing_is_refused(saved, only, error, match):
    with pytest.raises(error, match=match):
        loaded(saved, only)
