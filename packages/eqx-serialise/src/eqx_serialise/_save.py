"""Write a PyTree as a safetensors file."""

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import IO, Any

import numpy as np

from ._atomic_write import atomic_write
from ._check_text import check_text
from ._dtypes import to_bytes
from ._header import MAX_LENGTH, OURS, Header, header_to_bytes
from ._names import named_leaves
from ._plan import plan


def save(
    path_or_file: str | os.PathLike[str] | IO[bytes],
    tree: Any,
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the leaves of `tree` to one safetensors file, each under its name.

    Arrays (of JAX and NumPy, typed PRNG keys among them) become tensors called by their path in the
    tree, such as `layers[0].weight`; any reader of safetensors opens them. Python numbers and
    strings, and a digest of everything, go into the metadata. Other leaves, such as activation
    functions, are not written: `load` takes them from its `like`.

    Args:
      path_or_file: A path, used as it is: no suffix is added, and `.safetensors` is what other
        tools look for. A file already there is replaced in one step, after the new one has reached
        the disk, so that after an error or a crash either the old one or the new one is there,
        whole. Or a binary file that can seek, written from where it stands.
      tree: Any PyTree whose arrays are concrete, so not under `jax.jit`.
      metadata: Words of your own, which any reader of safetensors shows. No key may start with
        `eqx_serialise` or be `__metadata__`.

    Raises:
      TypeError: A leaf is no concrete array but looks like one, or its dtype cannot be written.
      ValueError: Two leaves have one name, or a name, a string or the metadata cannot be written.
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
    leaves, _ = named_leaves(tree, "save(tree)")
    arrays, header = plan(leaves)
    metadata = _checked(metadata)
    if isinstance(path_or_file, (str, os.PathLike)):
        with atomic_write(path_or_file) as file:
            _write(file, arrays, header, metadata)
    elif isinstance(path_or_file, io.TextIOBase) or not hasattr(path_or_file, "write"):
        raise TypeError(
            "`save(path_or_file=...)` must be a path or a binary file; got "
            f"`{type(path_or_file).__name__}`. Open the file with mode `wb`."
        )
    elif "a" in str(getattr(path_or_file, "mode", "")):
        raise ValueError(
            "`save(path_or_file=...)` must be a file that can be written anywhere; got one opened "
            "for appending. Use mode `wb`, or `r+b` and `file.seek`."
        )
    else:
        _write(path_or_file, arrays, header, metadata)


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


def _write(file: IO[bytes], arrays: dict[str, Any], header: Header, metadata: dict[str, str]) -> None:
    # Digests are known when the tensors have been written, so the header comes last.
    start = file.tell()
    room = len(header_to_bytes(header, metadata))
    if room > MAX_LENGTH:
        raise ValueError(
            f"`save(tree)` must need a header of at most {MAX_LENGTH} bytes; got {room}. "
            "Save fewer leaves or less metadata."
        )
    _write_all(file, bytes(room))
    tensors = {}
    for name, array in arrays.items():
        raw = to_bytes(_on_host(name, array)).data
        tensors[name] = replace(header.tensors[name], digest=hashlib.sha256(raw).hexdigest())
        _write_all(file, raw)
    end = file.tell()
    file.seek(start)
    _write_all(file, header_to_bytes(replace(header, tensors=tensors), metadata))
    file.seek(end)


def _on_host(name: str, array: Any) -> np.ndarray:
    try:
        return np.asarray(array)
    except RuntimeError as error:
        raise RuntimeError(
            f"`save(tree)` must hold arrays whose values are at hand; got none at `{name}`: "
            f"{error} Save before an array is donated, and where all of it is addressable."
        ) from error


def _write_all(file: IO[bytes], content: bytes | memoryview) -> None:
    # An unbuffered file may write less than it is given.
    while content:
        content = content[file.write(content) :]
