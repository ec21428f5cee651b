"""Write a file so that its name always stands for a whole file: the old one or the new one."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import IO

from ._os_errors import naming
from ._temporary import sweep, temporary


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], function: str = "save") -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `path` when the block is left without an error.

    It is written beside `path`, reaches the disk before the name does, and is removed after an
    error; what killed writers left of theirs is removed first. A link is followed, and permissions
    are those of the old file, else what the umask says.

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
    with naming(path):
        sweep(path)
        with temporary(path) as (beside, file):
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                file.close()
                with contextlib.suppress(FileNotFoundError):
                    shutil.copymode(path, beside)
                os.replace(beside, path)
            except BaseException:
                # To close is to write what is left, and fails once more where the disk is full.
                with contextlib.suppress(OSError):
                    file.close()
                with contextlib.suppress(OSError):
                    os.unlink(beside)
                raise
        _sync_folder(os.path.dirname(path))


def _sync_folder(folder: str) -> None:
    # The new name is on the disk only then. Windows cannot open a folder, and need not.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
