"""Read a PyTree back from a safetensors file, leaf by named leaf."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import IO, Any, TypeVar

import jax.tree_util as jtu
import numpy as np

from ._checkpoint_error import CheckpointError, damaged
from ._differences import differences
from ._dtypes import leaf_shape
from ._header import Header
from ._keys import key_like
from ._names import named_leaves
from ._python_values import from_json
from ._read import bytes_of, read_header, read_tensors
from ._restore import to_host, to_jax, to_numpy
from ._spec import ArraySpec, ScalarSpec, spec_of

_T = TypeVar("_T")


def load(path_or_file: str | os.PathLike[str] | IO[bytes], like: _T, *, verify: bool = True) -> _T:
    """Return `like` with its leaves read from a file that `save` wrote.

    Leaves are found by name, never by order, and must be the same ones: none missing, none left
    over, each of the same shape and dtype. Nothing is cast, and no code in a file is ever run.

    Args:
      path_or_file: A path, used as it is. Or a binary file that can seek, read from where it stands
        up to the end of the checkpoint, so that one file may hold several.
      like: A model, or its shapes from `jax.eval_shape`. What comes back is what `like` has: NumPy
        arrays for NumPy arrays; Python values for Python values; JAX arrays for JAX arrays and
        `jax.ShapeDtypeStruct`, on the same devices where those were chosen. Leaves that `save` does
        not write, such as functions, are taken from `like`.
      verify: Whether every byte must be what was written, by the digests in the file (SHA-256, at
        about 2 GB a second). They guard against accidents, not against forgery.

    Raises:
      CheckpointError: The file is damaged or not a checkpoint, or its leaves are not those of
        `like`. The error lists all that differ.
      RuntimeError: 64-bit JAX arrays are asked for, while JAX has none.
      OSError: The file cannot be read.

    Example:
      >>> import io
      >>> file = io.BytesIO()
      >>> eqx_serialise.save(file, {"weight": jnp.arange(3.0)})
      >>> _ = file.seek(0)
      >>> eqx_serialise.load(file, like={"weight": jnp.zeros(3)})
      {'weight': Array([0., 1., 2.], dtype=float32)}
    """
    leaves, structure = named_leaves(like, "load(like=...)")
    wanted = {name: spec for name, leaf in leaves.items() if (spec := spec_of(leaf)) is not None}
    with _opened(path_or_file) as (file, name):
        whole = isinstance(path_or_file, (str, os.PathLike))
        header = read_header(file, name, whole=whole, verify=verify)
        values = _values(header, name)
        _check_same(_specs(header, values, name), wanted, name)
        content = read_tensors(file, header, name, verify=verify)
    arrays = _arrays(header, content, name, leaves)
    return jtu.tree_unflatten(structure, (leaves | values | arrays).values())


@contextlib.contextmanager
def _opened(path_or_file: Any) -> Iterator[tuple[Any, str]]:
    """Yield a binary file, and what errors call it."""
    if isinstance(path_or_file, (str, os.PathLike)):
        # To open a pipe would be to wait for whoever writes to it.
        if os.path.exists(path_or_file) and not os.path.isfile(path_or_file):
            raise OSError(
                f"`load(path_or_file={os.fspath(path_or_file)!r})` must be a regular file; got "
                "something else of that name. Give the file itself."
            )
        with open(path_or_file, "rb") as file:
            yield file, repr(os.fspath(path_or_file))
    elif isinstance(path_or_file, io.TextIOBase) or not hasattr(path_or_file, "readinto"):
        raise TypeError(
            "`load(path_or_file=...)` must be a path or a binary file; got "
            f"`{type(path_or_file).__name__}`. Open the file with mode `rb`."
        )
    else:
        yield path_or_file, f"<{type(path_or_file).__name__}>"


def _values(header: Header, name: str) -> dict[str, Any]:
    """Return the Python values in the file."""
    try:
        return {leaf: from_json(item) for leaf, item in header.values.items()}
    except ValueError as error:
        raise damaged(name, f"a header with {error}") from error


def _specs(header: Header, values: dict[str, Any], file: str) -> dict[str, ArraySpec | ScalarSpec]:
    """Return what the leaves in the file are, by name."""
    specs: dict[str, ArraySpec | ScalarSpec] = {}
    for name, tensor in header.tensors.items():
        if tensor.dtype.startswith("key<"):
            keys = key_like(tensor.dtype, tensor.shape, file)
            specs[name] = ArraySpec(keys.dtype.name, keys.shape)
        else:
            specs[name] = ArraySpec(tensor.dtype, leaf_shape(tensor.dtype, tensor.shape))
    return specs | {name: ScalarSpec(type(value).__name__) for name, value in values.items()}


def _check_same(found: dict[str, Any], wanted: dict[str, Any], name: str) -> None:
    lines = differences(found, wanted)
    if lines:
        report = "\n".join(lines)
        raise CheckpointError(
            f"`load(like=...)` must have the leaves of the file {name}; got differences:\n{report}\n"
            "Build `like` just as the saved model was built, and change the model after loading."
        )


def _arrays(header: Header, content: np.ndarray, name: str, leaves: dict[str, Any]) -> dict[str, Any]:
    """Return the array leaves, of the kinds that `leaves` has."""
    arrays: dict[str, Any] = {}
    for leaf, tensor in header.tensors.items():
        try:
            arrays[leaf] = to_host(bytes_of(tensor, content), tensor)
        except ValueError as error:
            raise damaged(name, f"{error} for `{leaf}`") from error
    numpy = {leaf for leaf in arrays if isinstance(leaves[leaf], (np.ndarray, np.generic))}
    for_jax = {leaf: array for leaf, array in arrays.items() if leaf not in numpy}
    return {leaf: to_numpy(arrays[leaf], leaves[leaf]) for leaf in numpy} | to_jax(for_jax, header.tensors, leaves)
