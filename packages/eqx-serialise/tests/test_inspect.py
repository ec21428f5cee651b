"""The header alone says what a file holds."""

import io

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import xxhash

import eqx_serialise

TREE = {
    "weight": jnp.arange(6.0).reshape(2, 3),
    "complex": np.array([1j]),
    "key": jr.key(0),
    "rate": 0.5,
    "name": "a\x1b[2J",
    "large": np.zeros((1000, 1000), np.int8),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    eqx_serialise.save(path, TREE, metadata={"step": "100"})
    return path


def test_leaves_are_there_by_name(path):
    contents = eqx_serialise.inspect(path)
    assert set(contents) == {f"['{name}']" for name in TREE}
    assert len(contents) == 6
    leaf = contents["['weight']"]
    raw = np.arange(6, dtype="<f4").tobytes()
    assert (leaf.dtype, leaf.shape, leaf.size) == ("float32", (2, 3), 24)
    assert leaf.digest == xxhash.xxh3_128(raw).hexdigest()
    assert path.read_bytes()[leaf.start :][:24] == raw
    assert (contents["['complex']"].dtype, contents["['complex']"].shape) == ("complex128", (1,))
    assert (contents["['key']"].dtype, contents["['key']"].shape) == ("key<threefry2x32>", ())
    assert (contents["['rate']"].value, contents["['rate']"].shape) == (0.5, None)
    assert contents.metadata == {"step": "100"}
    assert contents.version == 1


def test_it_prints_as_a_table(path):
    lines = repr(eqx_serialise.inspect(path)).splitlines()
    assert lines[0] == f"{str(path)!r}: 6 leaves, 1,000,048 bytes"
    assert lines[1].split() == ["path", "dtype", "shape", "bytes", "xxh3_128"]
    assert "['name']     str                = 'a\\x1b[2J'" in lines
    large = next(line for line in lines if "large" in line)
    assert large.split()[1:5] == ["int8", "(1000,", "1000)", "1,000,000"]
    assert lines[-1] == "step: 100"


def test_an_empty_tree_is_a_table_of_no_rows(saved):
    assert (
        repr(eqx_serialise.inspect(io.BytesIO(saved([]))))
        == "<BytesIO>: 0 leaves, 0 bytes\npath  dtype  shape  bytes  xxh3_128"
    )


def test_only_the_header_is_read(saved):
    class Counting(io.BytesIO):
        count = 0

        def readinto(self, buffer):
            self.count += len(buffer)
            return super().readinto(buffer)

    file = Counting(saved(TREE))
    eqx_serialise.inspect(file)
    assert file.count < 4000


def test_damaged_tensors_are_not_its_business_and_a_damaged_header_is(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    eqx_serialise.inspect(io.BytesIO(bytes(content)))
    content[100] ^= 1
    with pytest.raises(eqx_serialise.CheckpointError, match=r"`inspect\(path_or_file=<BytesIO>\)` must be a"):
        eqx_serialise.inspect(io.BytesIO(bytes(content)))


def test_keys_that_this_jax_does_not_know_are_shown_as_numbers(saved, monkeypatch):
    content = saved([jr.key(0)])

    def unknown(*args, **kwargs):
        raise ValueError("unrecognised")

    monkeypatch.setattr(jr, "wrap_key_data", unknown)
    leaf = eqx_serialise.inspect(io.BytesIO(content))["[0]"]
    assert (leaf.dtype, leaf.shape) == ("key<threefry2x32>", (2,))


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        eqx_serialise.inspect(tmp_path / "nothing")
    with pytest.raises(TypeError, match=r"`inspect\(path_or_file=...\)` must be a path or a binary file; got `int`"):
        eqx_serialise.inspect(3)
