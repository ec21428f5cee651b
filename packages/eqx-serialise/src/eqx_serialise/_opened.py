"""Open what is to be read: a path, or a binary file."""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from ._os_errors import naming


@dataclass(frozen=True)
class Source:
    """A binary file to read.

    Attributes:
      name: What errors call the file, for example `'model.safetensors'`.
      call: What they call the reading of it, for example `load(path_or_file='model.safetensors')`.
      owned: Whether it was given by its path, so that it must hold one checkpoint and nothing else.
    """

    file: IO[bytes]
    name: str
    call: str
    owned: bool


@contextlib.contextmanager
def opened(
    path_or_file: Any, function: str, argument: str = "path_or_file", method: str = "readinto"
) -> Iterator[Source]:
    """Yield what `function` was given as `argument`, opened for reading.

    Args:
      method: What a file must be able to do.

    Raises:
      TypeError: It is no path and no binary file.
      OSError: It cannot be read, or is no regular file.
    """
    if isinstance(path_or_file, (str, os.PathLike)):
        path = os.fspath(path_or_file)
        # To open a pipe would be to wait for whoever writes to it.
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError(
                f"`{function}({argument}={path!r})` must be a regular file; got something else of that "
                "name. Give the file itself."
            )
        with naming(path), open(path, "rb") as file:
            yield Source(file, repr(path), f"{function}({argument}={path!r})", owned=True)
    elif isinstance(path_or_file, io.TextIOBase) or not hasattr(path_or_file, method):
        raise TypeError(
            f"`{function}({argument}=...)` must be a path or a binary file; got "
            f"`{type(path_or_file).__name__}`. Open the file with mode `rb`."
        )
    else:
        name = f"<{type(path_or_file).__name__}>"
        yield Source(path_or_file, name, f"{function}({argument}={name})", owned=False)
