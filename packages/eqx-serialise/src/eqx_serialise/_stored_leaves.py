"""The leaves of a checkpoint: Python values as they are, arrays as tensors that have not been read yet."""

from typing import Any

from ._checkpoint_error import damaged
from ._dtypes import leaf_shape
from ._header import Tensor
from ._keys import key_like
from ._python_values import from_json
from ._read import Checkpoint, read_tensors
from ._restore import to_host
from ._shown import shown
from ._spec import ArraySpec, ScalarSpec, spec_of


def stored_leaves(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what the file holds, by name: a `Tensor` for each array.

    Raises:
      CheckpointError: A Python value is none.
    """
    header = checkpoint.header
    try:
        values = {name: from_json(item) for name, item in header.values.items()}
    except ValueError as error:
        raise damaged(checkpoint.source.call, f"a header with {error}") from error
    return values | header.tensors


def spec_in_file(leaf: Any, call: str) -> ArraySpec | ScalarSpec:
    """Return what a leaf is, of which the values may not have been read yet.

    Raises:
      CheckpointError: A tensor holds PRNG keys of an implementation that JAX does not know.
    """
    if isinstance(leaf, Tensor):
        return tensor_spec(leaf, call)
    return spec_of(leaf) or ScalarSpec(type(leaf).__name__)


def tensor_spec(tensor: Tensor, call: str) -> ArraySpec:
    """Return the dtype and the shape of the array that a tensor holds.

    Raises:
      CheckpointError: It holds PRNG keys of an implementation that JAX does not know.
    """
    if tensor.dtype.startswith("key<"):
        keys = key_like(tensor.dtype, tensor.shape, call)
        return ArraySpec(keys.dtype.name, keys.shape)
    return ArraySpec(tensor.dtype, leaf_shape(tensor.dtype, tensor.shape))


def read_leaves(checkpoint: Checkpoint, leaves: dict[str, Any], *, verify: bool) -> dict[str, Any]:
    """Return `leaves` with arrays in place of tensors: NumPy arrays, and arrays of typed PRNG keys.

    Raises:
      CheckpointError: A tensor is not what was written; the error names its leaf.
    """
    tensors = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, Tensor)}
    content = read_tensors(checkpoint, tensors.values(), verify=verify)
    values = dict(leaves)
    for name, tensor in tensors.items():
        try:
            values[name] = to_host(content[tensor.name], tensor)
        except ValueError as error:
            raise damaged(checkpoint.source.call, f"{error} for `{shown(tensor.name)}`") from error
    return values
