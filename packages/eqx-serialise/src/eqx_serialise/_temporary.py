"""A new file beside the one whose place it will take; and what writers that were killed left of theirs.

A writer holds a lock (`flock`) on its file, which the system takes away when the process ends,
however it ends. So a file that can be locked is nobody's any more, on whatever machine or in
whatever container it was written. Where there are no such locks (Windows), nothing is swept.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from typing import IO

try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None


@contextlib.contextmanager
def temporary(path: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the name of a new file beside `path`, and the file. It is locked until the block is left.

    Raises:
      OSError: The folder cannot be written.
    """
    folder, name = os.path.split(path)
    while True:
        beside = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
        # "x" and not `tempfile`, whose files only their owner can read.
        file = open(beside, "xb")  # noqa: SIM115
        with file, _locked(file) as is_there:
            if is_there:
                yield beside, file
                return


def sweep(path: str) -> None:
    """Remove the files that `temporary(path)` made and whose writers are no more."""
    if fcntl is None:
        return
    folder, name = os.path.split(path)
    leftover = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}\.tmp")
    for found in filter(leftover.fullmatch, os.listdir(folder)):
        # Another writer sweeps as well; or it is another user's; or the file system has no locks.
        with contextlib.suppress(OSError):
            _remove_unless_locked(os.path.join(folder, found))


@contextlib.contextmanager
def _locked(file: IO[bytes]) -> Iterator[bool]:
    """Lock a file, and yield whether it still has its name: it may have been swept before it was locked."""
    if fcntl is None:
        yield True
        return
    # A second descriptor holds the lock on when the file has been closed.
    with os.fdopen(os.dup(file.fileno()), "rb") as holder:
        with contextlib.suppress(OSError):
            fcntl.flock(holder, fcntl.LOCK_EX)
        yield os.fstat(holder.fileno()).st_nlink > 0


def _remove_unless_locked(path: str) -> None:
    if fcntl is None:
        return
    # Network file systems lock only what may be written. Neither a link nor a pipe is ours.
    access = os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY
    descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Renamed since, it is a whole checkpoint, and has another name.
        os.unlink(path)
    finally:
        os.close(descriptor)
