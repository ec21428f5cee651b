"""Every byte is checked, without a model and without much memory."""

import io

import jax.numpy as jnp
import numpy as np
import pytest

import eqx_serialise

TREE = {name: jnp.full(16, float(i)) for i, name in enumerate("abc")}


def test_a_whole_file_gives_its_contents(tmp_path):
    eqx_serialise.save(tmp_path / "model", TREE)
    assert list(eqx_serialise.verify(tmp_path / "model")) == ["['a']", "['b']", "['c']"]


def test_several_checkpoints_in_a_file_are_verified_one_by_one(saved):
    file = io.BytesIO(saved(TREE) + saved([1]))
    assert len(eqx_serialise.verify(file)) == 3
    assert len(eqx_serialise.verify(file)) == 1
    assert file.read() == b""


def test_all_that_is_damaged_is_named_with_its_place(saved):
    content = bytearray(saved(TREE))
    content[-1] ^= 1
    content[-192] ^= 128
    size = len(content)
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        eqx_serialise.verify(io.BytesIO(bytes(content)))
    assert str(error.value) == (
        "`verify(path_or_file=<BytesIO>)` must be a whole and unchanged checkpoint; got other values for `['a']` "
        f"(bytes {size - 192} to {size - 128} of the file), other values for `['c']` (bytes {size - 64} to {size} of "
        "the file). Use another copy of it."
    )


def test_a_long_list_is_cut(saved):
    tree = [np.zeros(64, np.uint8)] * 30
    content = saved(tree)
    damaged = content[: -64 * 30] + b"\1" * (64 * 30)
    with pytest.raises(eqx_serialise.CheckpointError, match=r"`\[19\]` \([^)]*\), and 10 more\. Use"):
        eqx_serialise.verify(io.BytesIO(damaged))


@pytest.mark.parametrize("cut", [1, 64, 300])
def test_a_short_file_is_refused(saved, cut):
    with pytest.raises(eqx_serialise.CheckpointError, match="whole and unchanged"):
        eqx_serialise.verify(io.BytesIO(saved(TREE)[:-cut]))


def test_no_more_than_some_megabytes_are_held(saved):
    class Largest(io.BytesIO):
        size = 0

        def readinto(self, buffer):
            self.size = max(self.size, len(buffer))
            return super().readinto(buffer)

    file = Largest(saved([np.zeros(20_000_000, np.uint8)]))
    eqx_serialise.verify(file)
    assert file.size <= 1 << 22
