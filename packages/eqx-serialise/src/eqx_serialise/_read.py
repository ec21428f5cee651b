"""Read a checkpoint: first its header, then those of its tensors that are wanted."""

import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from ._checkpoint_error import damaged
from ._header import LENGTH_BYTES, MAX_LENGTH, Header, Tensor, header_from_bytes
from ._header_memory import LETTER, check_memory, room
from ._mapped import anonymous, mapped
from ._opened import Source
from ._shown import shown

_ALIGNMENT = 64  # XLA's on CPU: JAX takes a buffer over, without a copy, only if it starts there.
_LARGE = 1 << 10  # Bytes: from here on, a gap of up to 63 bytes before a tensor is less than 1/16 of it.
_PAGES = 1 << 24  # Bytes: from here on, Linux itself is asked for memory. There can be 65,530 such areas.
_CHUNK = 1 << 22  # Bytes in memory at a time where tensors are only checked.


@dataclass(frozen=True)
class Checkpoint:
    """A file whose header has been read.

    Attributes:
      start: Where in the file the tensors start.
      mapped: The whole file, `u8[bytes]`, if it is mapped into memory.
    """

    source: Source
    header: Header
    start: int
    mapped: np.ndarray | None = None

    @property
    def stop(self) -> int:
        """Where in the file the checkpoint ends."""
        return self.start + self.header.data_size


def open_checkpoint(source: Source, *, verify: bool, mmap: bool = False, parts: int = 0) -> Checkpoint:
    """Read the header at the place where the file stands, and leave the file behind it.

    Sizes are compared with what is there before anything is allocated.

    Args:
      parts: Leaves, nodes and static values that are asked for. So many more a header may have.

    Raises:
      CheckpointError: The file is not what was written, as far as its header and size can tell.
      ValueError: The file cannot be mapped.
    """
    file, call = source.file, source.call
    start = file.tell()
    size = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    if size < LENGTH_BYTES:
        raise damaged(call, f"{size} bytes")
    length = int.from_bytes(_read(file, LENGTH_BYTES, call), "little")
    allowed = room(size, parts)
    if length > min(MAX_LENGTH, size - LENGTH_BYTES):
        raise damaged(call, f"a header of {length} bytes in a file of {size}")
    check_memory(LETTER * length, allowed, call)
    header = header_from_bytes(_read(file, length, call).tobytes(), call, allowed=allowed, verify=verify)
    expected = LENGTH_BYTES + length + header.data_size
    if size < expected or (source.owned and size > expected):
        raise damaged(call, f"{size} bytes, where its header says {expected}")
    data = start + LENGTH_BYTES + length
    return Checkpoint(source, header, data, mapped(source) if mmap else None)


def read_tensors(checkpoint: Checkpoint, tensors: Iterable[Tensor], *, verify: bool) -> dict[str, np.ndarray]:
    """Return the bytes of each tensor, `u8[bytes]`, by its name in the file.

    Tensors that are neighbours in the file share memory.

    Raises:
      CheckpointError: A tensor is not what was written; the error names its leaf.
    """
    content: dict[str, np.ndarray] = {}
    for tensor, raw in _contents(checkpoint, tensors):
        # At once, while it is at hand: 0.03 s for 1 GB are not worth a thread.
        if verify and xxhash.xxh3_128_hexdigest(raw.data) != tensor.digest:
            raise damaged(checkpoint.source.call, changed(checkpoint, tensor))
        content[tensor.name] = raw
    return content


def is_unchanged(checkpoint: Checkpoint, tensor: Tensor) -> bool:
    """Return whether the bytes of a tensor are those that were written, holding only a few of them at a time."""
    digest = xxhash.xxh3_128()
    for start in range(tensor.start, tensor.stop, _CHUNK):
        digest.update(_bytes_at(checkpoint, start, min(start + _CHUNK, tensor.stop)).data)
    return digest.hexdigest() == tensor.digest


def changed(checkpoint: Checkpoint, tensor: Tensor) -> str:
    """Return what an error says of a tensor whose bytes are not those that were written."""
    place = f"bytes {checkpoint.start + tensor.start} to {checkpoint.start + tensor.stop}"
    return f"other values for `{shown(tensor.name)}` ({place} of the file)"


def _runs(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield tensors that lie one behind the other, in the order of the file."""
    run: list[Tensor] = []
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.stop)):
        if run and run[-1].stop != tensor.start:
            yield run
            run = []
        run.append(tensor)
    if run:
        yield run


def _contents(checkpoint: Checkpoint, tensors: Iterable[Tensor]) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield tensors with their bytes, in the order of the file."""
    for run in _runs(tensors):
        if checkpoint.mapped is not None:
            for tensor in run:
                yield tensor, _bytes_at(checkpoint, tensor.start, tensor.stop)
            continue
        places, size = _places(run)
        room = _aligned(size)
        checkpoint.source.file.seek(checkpoint.start + run[0].start)
        for tensor, place in zip(run, places, strict=True):
            raw = room[place : place + tensor.stop - tensor.start]
            _fill(checkpoint.source.file, raw, checkpoint.source.call)
            yield tensor, raw


def _places(run: list[Tensor]) -> tuple[list[int], int]:
    """Return where in memory each tensor goes, and the bytes of all together."""
    places, end = [], 0
    for tensor in run:
        size = tensor.stop - tensor.start
        # A large one is put where JAX takes it over. Gaps between small ones would need more memory
        # than copies of them: these stay as far from a multiple of 64 as in the file.
        place = end + ((0 if size >= _LARGE else tensor.start) - end) % _ALIGNMENT
        places.append(place)
        end = place + size
    return places, end


def _bytes_at(checkpoint: Checkpoint, start: int, stop: int) -> np.ndarray:
    """Return a part of the tensors' bytes."""
    if checkpoint.mapped is not None:
        return checkpoint.mapped[checkpoint.start + start : checkpoint.start + stop]
    checkpoint.source.file.seek(checkpoint.start + start)
    return _read(checkpoint.source.file, stop - start, checkpoint.source.call)


def _read(file: Any, size: int, call: str) -> np.ndarray:
    content = np.empty(size, np.uint8)
    _fill(file, content, call)
    return content


def _aligned(size: int) -> np.ndarray:
    """Return room for `size` bytes, `u8[size]`, that starts at a multiple of 64."""
    if size >= _PAGES and sys.platform == "linux":
        return anonymous(size)
    room = np.empty(size + _ALIGNMENT, np.uint8)
    skip = -room.ctypes.data % _ALIGNMENT
    return room[skip : skip + size]


def _fill(file: Any, content: np.ndarray, call: str) -> None:
    left = content.data
    # One call need not fill the buffer: an unbuffered read stops at 2 GB.
    while left:
        count = file.readinto(left)
        if not count:
            raise damaged(call, f"an end {len(left)} bytes early")
        left = left[count:]
