"""Write a checkpoint: the tensors from their buffers, then the header with their digests before them."""

import hashlib
from dataclasses import replace
from typing import IO, Any

import numpy as np

from ._dtypes import to_bytes
from ._header import MAX_LENGTH, Header, header_to_bytes


def write_checkpoint(file: IO[bytes], arrays: dict[str, Any], header: Header) -> None:
    """Write to where `file` stands, and leave it behind the checkpoint.

    Args:
      arrays: What becomes tensors, in the order of their places.
      header: What `plan` returned.

    Raises:
      ValueError: The header would be longer than readers take.
      RuntimeError: The values of an array are not at hand.
    """
    # Digests are known when the tensors have been written, so the header comes last.
    start = file.tell()
    room = len(header_to_bytes(header))
    if room > MAX_LENGTH:
        raise ValueError(
            f"`save(tree)` must need a header of at most {MAX_LENGTH} bytes; got {room}. "
            "Save fewer leaves or less metadata."
        )
    _write_all(file, bytes(room))
    tensors = dict(header.tensors)
    for name, array in arrays.items():
        raw = to_bytes(_on_host(name, array)).data
        tensors[name] = replace(tensors[name], digest=hashlib.sha256(raw).hexdigest())
        _write_all(file, raw)
    end = file.tell()
    file.seek(start)
    _write_all(file, header_to_bytes(replace(header, tensors=tensors)))
    file.seek(end)


def _on_host(name: str, array: Any) -> np.ndarray:
    try:
        return np.asarray(array)
    except RuntimeError as error:
        raise RuntimeError(
            f"`save(tree)` must hold arrays whose values are at hand; got none at `{name}`: "
            f"{error} Save before an array is donated, and where all of it is addressable."
        ) from error


def _write_all(file: IO[bytes], content: bytes | memoryview) -> None:
    # An unbuffered file may write less than it is given.
    while content:
        content = content[file.write(content) :]
