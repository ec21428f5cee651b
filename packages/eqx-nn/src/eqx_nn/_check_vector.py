"""Refuse what is not a vector of the right size."""

from typing import Any

import jax.numpy as jnp

import eqx_core


def check_vector(cell: str, name: str, x: Any, size: int) -> None:
    """Raise ValueError unless `x` is a vector of this size."""
    if jnp.shape(x) != (size,):
        raise ValueError(
            f"`{cell}.__call__({name}=...)` must have shape `({name}_size,)` = `({size},)`; got "
            f"`{eqx_core.tree_pformat(x)}`. Use `jax.vmap` for a batch, and `jax.lax.scan` for a sequence."
        )
