"""Make many objects without the search for garbage cycles, which would look at all of them again and again."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Pause the garbage collector, if it runs. For parts that make no cycles and last no longer than a second."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
