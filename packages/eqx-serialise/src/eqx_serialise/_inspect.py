"""Say what is in a checkpoint, from its header alone."""

import os
from typing import IO

from ._contents import Contents
from ._opened import opened
from ._read import open_checkpoint


def inspect(path_or_file: str | os.PathLike[str] | IO[bytes]) -> Contents:
    """Return what a checkpoint holds, from its header alone: names, dtypes, shapes, sizes, digests.

    The header is checked to be what was written. To check the tensors as well, use `verify`.

    Args:
      path_or_file: A path; or a binary file that can seek, read from where it stands.

    Raises:
      CheckpointError: The file is no checkpoint, or its header has changed.
      OSError: The file cannot be read.

    Example:
      >>> import io
      >>> file = io.BytesIO()
      >>> eqx_serialise.save(file, {"rate": 0.5, "weight": jnp.zeros((2, 3))})
      >>> _ = file.seek(0)
      >>> eqx_serialise.inspect(file)
      <BytesIO>: 2 leaves, 24 bytes
      path        dtype    shape   bytes  xxh3_128
      ['rate']    float    = 0.5
      ['weight']  float32  (2, 3)     24  10e45c7c
    """
    with opened(path_or_file, "inspect") as source:
        return Contents(open_checkpoint(source, verify=True))
