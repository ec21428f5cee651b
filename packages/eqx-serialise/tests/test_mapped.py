"""A file can be mapped into memory on request, and is then read when a leaf is looked at."""

import io
import os

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_serialise

TREE = {
    "large": jnp.arange(4096.0).reshape(64, 64),
    "odd": jnp.arange(5.0),
    "half": jnp.ones(3, jnp.bfloat16),
    "bool": jnp.array([True, False]),
    "key": jr.key(1),
    "numpy": np.arange(64, dtype=np.int64),
    "big": np.arange(3, dtype=">i4"),
    "scalar": np.float32(2.5),
    "rate": 0.5,
    "empty": jnp.zeros((0, 3)),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    eqx_serialise.save(path, TREE)
    return path


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jr.key_data(a), jr.key_data(b)
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)
    return True


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("only", [None, ["['large']", "['odd']"]])
def test_the_same_is_loaded(path, verify, only):
    like = jax.tree.map(lambda x: x, TREE)
    assert same(eqx_serialise.load(path, like, mmap=True, verify=verify, only=only), TREE)


def test_an_open_file_is_mapped_from_where_it_stands(path):
    with path.open("r+b") as file:
        file.seek(0, io.SEEK_END)
        eqx_serialise.save(file, TREE)
        file.seek(0)
        first = eqx_serialise.load(file, TREE, mmap=True)
        second = eqx_serialise.load(file, TREE, mmap=True)
        assert file.read() == b""
    assert same(first, TREE)
    assert same(second, TREE)


def test_damage_is_found(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(eqx_serialise.CheckpointError, match="other values for"):
        eqx_serialise.load(path, TREE, mmap=True)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="This system does not list what is mapped.")
def test_an_aligned_array_is_the_file_itself(path):
    if jax.default_backend() != "cpu":
        pytest.skip("Other devices have memory of their own.")
    loaded = eqx_serialise.load(path, TREE, mmap=True, verify=False)
    place = loaded["large"].unsafe_buffer_pointer()
    with open("/proc/self/maps") as maps:
        areas = [line.split() for line in maps if line.rstrip().endswith(path.name)]
    ranges = [[int(x, 16) for x in area[0].split("-")] for area in areas]
    assert any(start <= place < stop for start, stop in ranges)


def test_what_is_written_into_a_loaded_array_does_not_reach_the_file(path):
    before = path.read_bytes()
    loaded = eqx_serialise.load(path, TREE, mmap=True)
    loaded["numpy"] += 1
    doubled = jax.jit(lambda x: 2 * x, donate_argnums=0)(loaded["large"])
    np.testing.assert_array_equal(doubled, 2 * np.arange(4096.0).reshape(64, 64))
    assert path.read_bytes() == before
    assert same(eqx_serialise.load(path, TREE), TREE)


def test_arrays_outlive_the_name_of_the_file(path):
    loaded = eqx_serialise.load(path, TREE, mmap=True, verify=False)
    path.unlink()
    assert same(loaded, TREE)


def test_a_file_that_is_not_on_disk_is_refused(saved):
    with pytest.raises(ValueError, match=r"`load\(mmap=True\)` must be given a file on disk; got .*BytesIO.*Leave out"):
        eqx_serialise.load(io.BytesIO(saved(TREE)), TREE, mmap=True)
