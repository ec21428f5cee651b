"""Checkpoints, under the name that programs use: all of `eqx_serialise`."""

from eqx_serialise import (
    CheckpointError as CheckpointError,
    Contents as Contents,
    FileDiff as FileDiff,
    FileDifference as FileDifference,
    LeafError as LeafError,
    Migration as Migration,
    StoredLeaf as StoredLeaf,
    convert as convert,
    default_deserialise_filter_spec as default_deserialise_filter_spec,
    default_serialise_filter_spec as default_serialise_filter_spec,
    diff as diff,
    inspect as inspect,
    load as load,
    migration as migration,
    save as save,
    tree_deserialise_leaves as tree_deserialise_leaves,
    tree_serialise_leaves as tree_serialise_leaves,
    verify as verify,
)
