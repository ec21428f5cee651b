"""Check that a checkpoint is what was written, without a model."""

import os
from typing import IO

from ._checkpoint_error import damaged
from ._contents import Contents
from ._opened import opened
from ._read import changed, is_unchanged, open_checkpoint

_MOST = 20  # Damaged leaves to list.


def verify(path_or_file: str | os.PathLike[str] | IO[bytes]) -> Contents:
    """Return what a checkpoint holds, as `inspect` does, after checking that every byte is what was written.

    It needs no model and some megabytes of memory, however large the file is.

    Args:
      path_or_file: A path; or a binary file that can seek, read from where it stands up to the end
        of the checkpoint.

    Raises:
      CheckpointError: The file has changed. The error names each leaf that has, and where it is.
      OSError: The file cannot be read.

    Example:
      >>> import io
      >>> file = io.BytesIO()
      >>> eqx_serialise.save(file, [jnp.zeros(3)])
      >>> _ = file.seek(0)
      >>> list(eqx_serialise.verify(file))
      ['[0]']
    """
    with opened(path_or_file, "verify") as source:
        checkpoint = open_checkpoint(source, verify=True)
        tensors = sorted(checkpoint.header.tensors.values(), key=lambda tensor: tensor.start)
        bad = [tensor for tensor in tensors if not is_unchanged(checkpoint, tensor)]
        if bad:
            more = f", and {len(bad) - _MOST} more" if len(bad) > _MOST else ""
            raise damaged(source.call, ", ".join(changed(checkpoint, tensor) for tensor in bad[:_MOST]) + more)
        source.file.seek(checkpoint.stop)
        return Contents(checkpoint)
