"""Garbage is collected after a load as before it."""

import gc
import io

import jax
import numpy as np
import pytest

import eqx_serialise

TREE = [np.ones(3, np.float32)]


@pytest.fixture(params=[True, False])
def enabled(request):
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_the_collector_is_as_before_a_round_trip(enabled, round_trip):
    round_trip(TREE)
    assert gc.isenabled() is enabled


def test_the_collector_is_as_before_an_error(enabled, saved):
    with pytest.raises(eqx_serialise.CheckpointError):
        eqx_serialise.load(io.BytesIO(saved(TREE)[:-1]), TREE)
    with pytest.raises(TypeError, match="must hold arrays of JAX or NumPy"):
        eqx_serialise.save(io.BytesIO(), [jax.ShapeDtypeStruct((3,), np.float32)])
    assert gc.isenabled() is enabled


def test_leaves_are_made_while_it_is_paused(enabled):
    seen = []

    class Key(str):
        def __repr__(self):
            seen.append(gc.isenabled())
            return super().__repr__()

    eqx_serialise.save(io.BytesIO(), {Key("a"): TREE[0]})
    assert seen
    assert not seen[0]
