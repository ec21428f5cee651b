"""Map a file into memory, so that its pages are read when they are looked at; or memory of no file."""

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


def anonymous(size: int) -> np.ndarray:
    """Return memory that the system has filled with zeros, `u8[size]`, from the start of a page on.

    NumPy asks for pages of 2 MB instead. On the virtual machine where this was measured, a fresh process took 1.2 to
    2.1 s of CPU time to read 1 GB into those, though 0.3 s into some that had just been freed, and always 0.6 s into
    these.
    """
    return np.frombuffer(mmap.mmap(-1, size, access=mmap.ACCESS_COPY), np.uint8)
