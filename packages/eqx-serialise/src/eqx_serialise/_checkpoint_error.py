"""The error of a checkpoint that cannot be loaded."""


class CheckpointError(ValueError):
    """Raised when a file is damaged, or does not hold the leaves that `like` asks for.

    Nothing has been loaded by then. A file that is missing or cannot be read raises `OSError`, as
    it does everywhere.

    Example:
      >>> import io
      >>> try:
      ...     eqx_serialise.load(io.BytesIO(b"weights"), {"weight": jnp.zeros(3)})
      ... except eqx_serialise.CheckpointError:
      ...     print("start from scratch")
      start from scratch
    """


def damaged(call: str, found: str) -> CheckpointError:
    """Return the error for a file whose bytes are not those that were written.

    Args:
      call: The call that reads it, for example `load(path_or_file='model.safetensors')`.
    """
    return CheckpointError(f"`{call}` must be a whole and unchanged checkpoint; got {found}. Use another copy of it.")
