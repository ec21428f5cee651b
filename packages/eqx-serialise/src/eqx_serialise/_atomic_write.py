"""Write a file so that its name always stands for a whole file: the old one or the new one."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], function: str = "save") -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `path` when the block is left without an error.

    It is written beside `path`, reaches the disk before the name does, and is removed after an
    error. A link is followed, and permissions are those of the old file, else what the umask says.

    Args:
      function: What errors call the function that was given `path_or_file`.

    Raises:
      OSError: The folder cannot be written, the disk is full, or `path` is no regular file.
    """
    path = os.path.realpath(path)
    if os.path.lexists(path) and not os.path.isfile(path):
        raise OSError(
            f"`{function}(path_or_file={path!r})` must be a regular file; got something else of that "
            "name. Choose another name."
        )
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
    try:
        # "x" and not `tempfile`, whose files only their owner can read.
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    # The new name is on the disk only then. Windows cannot open a folder, and need not.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
