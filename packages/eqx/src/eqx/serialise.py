"""Checkpoints, under the name that programs use: all of `eqx_serialise`."""

from eqx_serialise import (
    CheckpointError as CheckpointError,
    load as load,
    save as save,
)
