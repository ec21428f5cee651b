"""The path of a file of leaves."""

import os
from pathlib import Path
from typing import Any


def eqx_path(path_or_file: Any) -> Any:
    """Return a path with `.eqx` after a name that has no suffix; a file as it is."""
    if not isinstance(path_or_file, (str, os.PathLike)):
        return path_or_file
    path = Path(path_or_file)
    # From Python 3.14 on a dot at the end is a suffix; file names must not depend on that.
    return path.with_name(f"{path.name}.eqx") if path.suffix in {"", "."} else path
