"""Turn a file of leaves without names into a checkpoint."""

import os
from collections.abc import Mapping
from typing import IO, Any

from ._save import save
from ._tree_deserialise_leaves import default_deserialise_filter_spec, tree_deserialise_leaves


def convert(
    source: str | os.PathLike[str] | IO[bytes],
    like: Any,
    target: str | os.PathLike[str] | IO[bytes],
    *,
    filter_spec: Any = default_deserialise_filter_spec,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write as a checkpoint what Equinox, or `tree_serialise_leaves`, has written as an `.eqx` file.

    The old file says nothing of its order, so `like` must be built just as the saved model was.
    Load the result and look at what it computes before you throw the old file away.

    Args:
      source: The `.eqx` file: a path, or a binary file.
      like: The model that was saved, or its shapes.
      target: The checkpoint to write: a path, or a binary file.
      filter_spec: What reads a leaf, as in `tree_deserialise_leaves`.
      metadata: Words of your own, as in `save`.

    Raises:
      LeafError: A leaf cannot be read, or is not what `like` has.
      CheckpointError: The old file goes on after the last leaf.
      OSError: A file cannot be read or written.

    Example:
      >>> import io
      >>> old, new = io.BytesIO(), io.BytesIO()
      >>> eqx_serialise.tree_serialise_leaves(old, {"weight": jnp.zeros((2, 3))})
      >>> _ = old.seek(0)
      >>> eqx_serialise.convert(old, {"weight": jax.ShapeDtypeStruct((2, 3), jnp.float32)}, new)
      >>> _ = new.seek(0)
      >>> list(eqx_serialise.inspect(new))
      ["['weight']"]
    """
    save(target, tree_deserialise_leaves(source, like, filter_spec), metadata=metadata)
