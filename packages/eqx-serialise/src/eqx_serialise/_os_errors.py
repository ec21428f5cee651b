"""Say in an error of the operating system which file it is about."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Add the name of a file to an `OSError` that has none: a full disk says no more than that there is one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise
