"""Write a PyTree as a safetensors file."""

import os
from collections.abc import Mapping
from typing import IO, Any

from ._check_text import check_text
from ._header import OURS
from ._names import named_leaves
from ._plan import plan
from ._structure import structure
from ._without_collection import without_collection
from ._writable import writable
from ._write import write_checkpoint


def save(
    path_or_file: str | os.PathLike[str] | IO[bytes],
    tree: Any,
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the leaves of `tree` to one safetensors file, each under its name.

    Arrays (of JAX and NumPy, typed PRNG keys among them) become tensors called by their path in the
    tree, such as `layers[0].weight`; any reader of safetensors opens them. Python numbers and
    strings, static values, the names and schemas of classes, and a digest of everything go into the
    metadata. Other leaves, such as activation functions, are written by name alone: `load` takes
    them from its `like`, and compares.

    Args:
      path_or_file: A path, used as it is: no suffix is added, and `.safetensors` is what other
        tools look for. A file already there is replaced in one step, after the new one has reached
        the disk, so that after an error or a crash either the old one or the new one is there,
        whole. Or a binary file that can seek, written from where it stands.
      tree: Any PyTree whose arrays are concrete, so not under `jax.jit`.
      metadata: Words of your own, which any reader of safetensors shows. No key may start with
        `eqx_serialise` or be `__metadata__`.

    Raises:
      TypeError: A leaf is no concrete array but looks like one, or its dtype cannot be written; or
        the `__schema__` of a class is no integer.
      ValueError: Two leaves have one name; a name, a string or the metadata cannot be written; or the
        header would be longer than 100 MB, or larger in memory than `load` takes.
      RuntimeError: An array has been donated, or parts of it are on other machines.
      OSError: The file cannot be written.

    Example:
      >>> import pathlib, tempfile
      >>> model = {"weight": jnp.ones((2, 3)), "scale": 0.5, "activation": jax.nn.relu}
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
      >>> eqx_serialise.save(path, model)
      >>> eqx_serialise.load(path, like=model)["scale"]
      0.5
    """
    with without_collection():
        leaves, _ = named_leaves(tree, "save(tree)")
        arrays, header = plan(leaves, structure(tree)[0], _checked(metadata))
    with writable(path_or_file, "save") as file:
        write_checkpoint(file, arrays, header)


def _checked(metadata: Mapping[str, str] | None) -> dict[str, str]:
    metadata = dict(metadata or {})
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(
                f"`save(metadata=...)` must map strings to strings; got {key!r:.40}: "
                f"`{type(value).__name__}`. Use `str` or `json.dumps`."
            )
        check_text(key + value, "`save(metadata=...)`")
        if key.startswith(OURS):
            raise ValueError(
                f"`save(metadata=...)` must leave keys that start with `{OURS}` to the format; "
                f"got {key!r:.40}. Use another key."
            )
    return metadata
