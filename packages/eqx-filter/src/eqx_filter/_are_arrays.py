"""Tell for many leaves at once which are arrays."""

from typing import Any

import jax.core

import eqx_core


def are_arrays(leaves: list[Any]) -> list[bool]:
    """Return `is_array` of each leaf, asked once for each type among them.

    Example:
      >>> are_arrays([np.ones(2), 1, "a"])
      [True, False, False]
    """
    examples = {type(leaf): leaf for leaf in leaves}
    # A traced value may also be a reference or a token, which its type does not tell.
    if any(issubclass(kind, jax.core.Tracer) for kind in examples):
        return list(map(eqx_core.is_array, leaves))
    arrays = {kind for kind, leaf in examples.items() if eqx_core.is_array(leaf)}
    return [type(leaf) in arrays for leaf in leaves]
