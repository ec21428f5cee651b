"""The error of a leaf that could not be written or read."""

from typing import Any

from ._checkpoint_error import CheckpointError


class LeafError(CheckpointError, RuntimeError):
    """Raised by `tree_serialise_leaves` and `tree_deserialise_leaves` when a leaf cannot be written or read.

    Attributes:
      path: The path to the leaf, as `jax.tree_util.tree_flatten_with_path` returns it.

    Example:
      >>> import io
      >>> try:
      ...     eqx_serialise.tree_serialise_leaves(io.BytesIO(), {"key": jr.key(0)})
      ... except eqx_serialise.LeafError as error:
      ...     print(error.path)
      (DictKey(key='key'),)
    """

    def __init__(self, message: str, path: tuple[Any, ...] = ()):
        super().__init__(message)
        self.path = path


def leaf_error(path: tuple[Any, ...], where: str, error: Exception) -> LeafError:
    """Return the error for a leaf whose function raised `error`.

    Args:
      where: The call, and the place in the file.
    """
    return LeafError(f"Error at leaf with path {path}, {where}: {type(error).__name__}: {error}", path)
