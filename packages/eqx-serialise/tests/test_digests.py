"""Digests come in the order of the tensors, whichever thread reckons them."""

import hashlib
import io

import numpy as np
import pytest

import eqx_serialise

BATCH = 1 << 22


class FullDisk(io.BytesIO):
    def write(self, content):
        if self.tell() > BATCH:
            raise OSError("the disk is full")
        return super().write(content)


@pytest.mark.parametrize(
    "sizes",
    [[0], [3, 0, 5], [BATCH], [BATCH + 1, 1, BATCH], [BATCH - 1, 1, 7], [1, 2 * BATCH, 3, BATCH // 2, BATCH // 2, 9]],
)
def test_they_are_those_of_hashlib(saved, sizes):
    tree = {f"{i}": np.full(size, i, np.uint8) for i, size in enumerate(sizes)}
    contents = eqx_serialise.inspect(io.BytesIO(saved(tree)))
    for name, array in tree.items():
        assert contents[f"['{name}']"].digest == hashlib.sha256(array.tobytes()).hexdigest()


def test_an_error_of_the_file_is_passed_on():
    with pytest.raises(OSError, match="the disk is full"):
        eqx_serialise.save(FullDisk(), [np.zeros(BATCH, np.uint8)] * 3)
