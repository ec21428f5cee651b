"""Tensors are read to where JAX can take them over."""

import io
import itertools

import jax
import numpy as np
import pytest

import eqx_serialise


def test_large_jax_arrays_share_one_buffer_without_a_copy(saved):
    if jax.default_backend() != "cpu":
        pytest.skip("Other devices have memory of their own.")
    tree = [np.arange(1001, dtype=np.float32) + i for i in range(5)]
    like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in tree]
    loaded = eqx_serialise.load(io.BytesIO(saved(tree)), like)
    places = sorted(array.unsafe_buffer_pointer() for array in loaded)
    # 1001 float32 take 4004 bytes, which are padded to 4032. Copies would be further apart.
    assert {b - a for a, b in itertools.pairwise(places)} == {4032}
    for before, after in zip(tree, loaded, strict=True):
        np.testing.assert_array_equal(before, after)


def test_damage_behind_a_full_batch_names_its_leaf(saved):
    tree = {f"{i}": np.full(1 << 19, i, np.float32) for i in range(5)}
    content = bytearray(saved(tree))
    content[-5] ^= 1
    with pytest.raises(eqx_serialise.CheckpointError, match=r"other values for `\['4'\]`"):
        eqx_serialise.load(io.BytesIO(content), tree)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_large_runs_are_read_into_memory_that_can_be_written(tmp_path, more):
    tree = [np.arange((1 << 22) + more, dtype=np.float32), np.arange(5.0)]
    path = tmp_path / "model"
    eqx_serialise.save(path, tree)
    loaded = eqx_serialise.load(path, [jax.ShapeDtypeStruct(tree[0].shape, np.float32), tree[1]])
    np.testing.assert_array_equal(loaded[0], tree[0])
    np.testing.assert_array_equal(loaded[1], tree[1])
    doubled = jax.jit(lambda x: 2 * x, donate_argnums=0)(loaded[0])
    np.testing.assert_array_equal(doubled, 2 * tree[0])
    path.unlink()
