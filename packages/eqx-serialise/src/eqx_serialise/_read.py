"""Read a checkpoint: first its header, then all of its tensors into one buffer."""

import hashlib
import io
from typing import Any

import numpy as np

from ._checkpoint_error import damaged
from ._header import LENGTH_BYTES, MAX_LENGTH, Header, Tensor, header_from_bytes

_ALIGNMENT = 64  # XLA's on CPU: JAX takes a buffer over, without a copy, only if it starts there.


def read_header(file: Any, name: str, *, whole: bool, verify: bool) -> Header:
    """Return the header at the place where `file` stands, and leave `file` behind it.

    Sizes are compared with what is there before anything is allocated.

    Args:
      name: What an error calls the file.
      whole: Whether the checkpoint must end where the file does.

    Raises:
      CheckpointError: The file is not what was written, as far as its header and size can tell.
    """
    start = file.tell()
    size = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    if size < LENGTH_BYTES:
        raise damaged(name, f"{size} bytes")
    length = int.from_bytes(_read(file, LENGTH_BYTES, name), "little")
    if length > min(MAX_LENGTH, size - LENGTH_BYTES):
        raise damaged(name, f"a header of {length} bytes in a file of {size}")
    header = header_from_bytes(_read(file, length, name).tobytes(), name, verify=verify)
    expected = LENGTH_BYTES + length + header.data_size
    if size < expected or (whole and size > expected):
        raise damaged(name, f"{size} bytes, where its header says {expected}")
    return header


def read_tensors(file: Any, header: Header, name: str, *, verify: bool) -> np.ndarray:
    """Return the bytes of all tensors, `u8[bytes]`, from where `file` stands.

    Raises:
      CheckpointError: A tensor is not what was written; the error names its leaf.
    """
    start = file.tell()
    content = _read(file, header.data_size, name)
    for leaf, tensor in header.tensors.items() if verify else ():
        if hashlib.sha256(bytes_of(tensor, content).data).hexdigest() != tensor.digest:
            place = f"bytes {start + tensor.start} to {start + tensor.stop}"
            raise damaged(name, f"other values for `{leaf}` ({place} of the file)")
    return content


def bytes_of(tensor: Tensor, content: np.ndarray) -> np.ndarray:
    """Return the part of `content`, `u8[bytes]`, that is the tensor; a view."""
    return content[tensor.start : tensor.stop]


def _read(file: Any, size: int, name: str) -> np.ndarray:
    room = np.empty(size + _ALIGNMENT, np.uint8)
    skip = -room.ctypes.data % _ALIGNMENT
    content = room[skip : skip + size]
    left = content.data
    # One call need not fill the buffer: an unbuffered read stops at 2 GB.
    while left:
        count = file.readinto(left)
        if not count:
            raise damaged(name, f"an end {len(left)} bytes early")
        left = left[count:]
    return content
