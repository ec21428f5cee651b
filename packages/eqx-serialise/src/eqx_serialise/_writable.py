"""Open what is to be written: a path, whose file is replaced at once, or a binary file."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import IO, Any

from ._atomic_write import atomic_write


@contextlib.contextmanager
def writable(path_or_file: Any, function: str) -> Iterator[IO[bytes]]:
    """Yield what `function` was given as `path_or_file`, ready to be written and to seek.

    Raises:
      TypeError: It is no path and no binary file.
      ValueError: It is a file that can only be appended to.
      OSError: It cannot be written.
    """
    if isinstance(path_or_file, (str, os.PathLike)):
        with atomic_write(path_or_file, function) as file:
            yield file
    elif isinstance(path_or_file, io.TextIOBase) or not hasattr(path_or_file, "write"):
        raise TypeError(
            f"`{function}(path_or_file=...)` must be a path or a binary file; got "
            f"`{type(path_or_file).__name__}`. Open the file with mode `wb`."
        )
    elif function == "save" and "a" in str(getattr(path_or_file, "mode", "")):
        raise ValueError(
            "`save(path_or_file=...)` must be a file that can be written anywhere; got one opened "
            "for appending. Use mode `wb`, or `r+b` and `file.seek`."
        )
    else:
        yield path_or_file
