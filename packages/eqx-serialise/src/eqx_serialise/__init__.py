"""Save and load JAX PyTrees, leaf by named leaf.

Read `_save` and `_load` first; `_header` says what a file looks like, `_dtypes` how numbers are written.
"""

from importlib.metadata import version as _version

from ._checkpoint_error import CheckpointError as CheckpointError
from ._load import load as load
from ._save import save as save

__version__ = _version("eqx-serialise")
