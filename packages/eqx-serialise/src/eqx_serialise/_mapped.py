"""Map a file into memory: its pages are read when they are looked at."""

import io
import mmap

import numpy as np

from ._opened import Source


def mapped(source: Source) -> np.ndarray:
    """Return the whole file as `u8[bytes]`, without reading it.

    Whoever writes into the array changes memory alone. But a file that is cut while it is mapped
    ends the process.

    Raises:
      ValueError: The file is none of the file system, such as `io.BytesIO`.
    """
    try:
        descriptor = source.file.fileno()
    except (AttributeError, io.UnsupportedOperation) as error:
        raise ValueError(
            f"`load(mmap=True)` must be given a file on disk; got `{source.call}`. Leave out `mmap=True`."
        ) from error
    # Not read-only: a computation to which the array is donated may write its result there.
    return np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY), np.uint8)
