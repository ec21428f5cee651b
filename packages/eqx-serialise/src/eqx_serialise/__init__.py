"""Save and load JAX PyTrees, leaf by named leaf.

Read `_save` and `_load` first; `_header` says what a file looks like, `_dtypes` how numbers are written.
"""

from importlib.metadata import version as _version

from ._checkpoint_error import CheckpointError as CheckpointError
from ._contents import Contents as Contents, StoredLeaf as StoredLeaf
from ._convert import convert as convert
from ._diff import FileDiff as FileDiff, FileDifference as FileDifference, diff as diff
from ._inspect import inspect as inspect
from ._leaf_error import LeafError as LeafError
from ._load import load as load
from ._migration import Migration as Migration, migration as migration
from ._save import save as save
from ._tree_deserialise_leaves import (
    default_deserialise_filter_spec as default_deserialise_filter_spec,
    tree_deserialise_leaves as tree_deserialise_leaves,
)
from ._tree_serialise_leaves import (
    default_serialise_filter_spec as default_serialise_filter_spec,
    tree_serialise_leaves as tree_serialise_leaves,
)
from ._verify import verify as verify

__version__ = _version("eqx-serialise")
