"""Whatever happens to the bytes of a file: an error that names the file, the leaf and the place, or the same values."""

import io
import os
import random
import re

import jax.numpy as jnp
import numpy as np
import pytest

import eqx_serialise

PAGE = 4096
TREE = {"a": np.arange(16, dtype=np.float32), "b": np.array([True, False]), "c": np.arange(3, dtype=np.int8)}
LARGE = {f"layer{i:02}": np.random.default_rng(i).normal(size=PAGE // 8) for i in range(64)}
KIND = eqx_serialise.CheckpointError


def data_of(content):
    """Return where the tensors start."""
    return 8 + int.from_bytes(content[:8], "little")


def places(path, tree):
    """Return the bytes of each leaf in the file, by its name."""
    leaves = eqx_serialise.inspect(path)
    return {name: range(leaf.start, leaf.start + leaf.size) for name, leaf in leaves.items()}


@pytest.mark.parametrize("mmap", [False, True])
def test_every_flipped_bit_is_an_error_that_names_file_leaf_and_place(tmp_path, mmap):
    path = tmp_path / "model"
    eqx_serialise.save(path, TREE)
    content, where = path.read_bytes(), places(path, TREE)
    for position in range(len(content)):
        owner = next((name for name, place in where.items() if position in place), None)
        for bit in range(8) if owner else (position % 8,):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(KIND) as error:
                eqx_serialise.load(path, TREE, mmap=mmap)
            assert str(path) in str(error.value)
            if owner:
                place = f"(bytes {where[owner].start} to {where[owner].stop} of the file)"
                assert f"`{owner}` {place}" in str(error.value)


def test_every_length_that_a_file_is_cut_to_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "model"
    eqx_serialise.save(path, TREE)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        for read in (lambda: eqx_serialise.load(path, TREE), lambda: eqx_serialise.verify(path)):
            with pytest.raises(KIND, match=re.escape(repr(str(path)))):
                read()


@pytest.mark.parametrize("count", [1, 7, 64, PAGE, 3 * PAGE])
def test_appended_bytes_are_an_error_that_names_both_sizes(tmp_path, count):
    path = tmp_path / "model"
    eqx_serialise.save(path, TREE)
    content = path.read_bytes()
    for more in (bytes(count), (content * 100)[:count]):
        path.write_bytes(content + more)
        with pytest.raises(KIND, match=f"{len(content) + count} bytes, where its header says {len(content)}"):
            eqx_serialise.load(path, TREE)


def test_swapped_and_zeroed_pages_are_errors_that_name_a_leaf_or_the_header(tmp_path):
    path = tmp_path / "model"
    eqx_serialise.save(path, LARGE)
    content = path.read_bytes()
    pages = [content[start : start + PAGE] for start in range(0, len(content), PAGE)]
    draw, start = random.Random(0), data_of(content)
    swaps = [(i, i + 1) for i in range(len(pages) - 1)] + [sorted(draw.sample(range(len(pages)), 2)) for _ in range(60)]
    damages = [(i, [*pages[:i], pages[j], *pages[i + 1 : j], pages[i], *pages[j + 1 :]]) for i, j in swaps]
    damages += [(i, [*pages[:i], bytes(len(pages[i])), *pages[i + 1 :]]) for i in range(len(pages))]
    for first, changed in damages:
        path.write_bytes(b"".join(changed))
        with pytest.raises(KIND) as error:
            eqx_serialise.verify(path)
        if first * PAGE >= start:
            assert re.search(r"other values for `\['layer\d\d'\]` \(bytes \d+ to \d+ of the file\)", str(error.value))


def test_a_file_of_zeros_is_refused(tmp_path):
    for size in (0, 1, 8, 64, PAGE):
        (tmp_path / "zeros").write_bytes(bytes(size))
        with pytest.raises(KIND, match="zeros"):
            eqx_serialise.load(tmp_path / "zeros", TREE)


def test_none_of_many_flipped_bits_goes_unnoticed_in_a_larger_file(saved):
    # 2,000 here, 100,000 in the session that fuzzes.
    count = int(os.environ.get("EQX_FLIPS", "2000"))
    file = io.BytesIO(saved(LARGE))
    before, buffer, unnoticed = file.getvalue(), file.getbuffer(), []
    for flip in np.random.default_rng(0).integers(0, len(before) * 8, count).tolist():
        buffer[flip // 8] ^= 1 << flip % 8
        file.seek(0)
        try:
            eqx_serialise.verify(file)
            unnoticed.append(flip)
        except KIND:
            pass
        buffer[flip // 8] ^= 1 << flip % 8
    buffer.release()
    assert not unnoticed
    assert file.getvalue() == before


def test_what_is_not_loaded_need_not_be_whole(saved):
    content = bytearray(saved({"a": jnp.zeros(16), "b": jnp.ones(16)}))
    content[-1] ^= 1
    like = {"a": jnp.ones(16), "b": jnp.ones(16)}
    assert eqx_serialise.load(io.BytesIO(content), like, only="['a']")["a"][0] == 0
    with pytest.raises(KIND, match=r"other values for `\['b'\]`"):
        eqx_serialise.load(io.BytesIO(content), like)
