"""Write the leaves of a PyTree one after another, without names: the format of Equinox."""

import os
from collections.abc import Callable
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._eqx_path import eqx_path
from ._leaf_error import leaf_error
from ._leaf_functions import checked, map_with_functions
from ._npy import write_npy
from ._writable import writable


def default_serialise_filter_spec(f: IO[bytes], x: Any) -> None:
    """Write one leaf: an array, or a Python or NumPy scalar, as a record of NumPy's `.npy` format. Skip other leaves.

    Args:
      f: A binary file, written from where it stands.
      x: Any leaf.

    Raises:
      TypeError: The leaf stands for an array but is none that this format has, such as typed PRNG
        keys, a shape, or a tracer.
      ValueError: The leaf is an array of Python objects, or an integer too large for an array.

    Example:
      >>> import io
      >>> file = io.BytesIO()
      >>> eqx_serialise.default_serialise_filter_spec(file, 0.5)
      >>> print(np.load(io.BytesIO(file.getvalue())))
      0.5
    """
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        raise TypeError(
            "`default_serialise_filter_spec(x=...)` must not be typed PRNG keys, which this format has not; got "
            f"{x.dtype}{list(x.shape)}. Use `eqx_serialise.save`, or save `jax.random.key_data` of it."
        )
    if isinstance(x, (jax.Array, np.ndarray, np.generic, bool, int, float, complex)):
        write_npy(f, np.asanyarray(x))
    elif isinstance(x, jax.ShapeDtypeStruct) or (hasattr(x, "__jax_array__") and not isinstance(x, type)):
        raise TypeError(
            "`default_serialise_filter_spec(x=...)` must be an array to be written; got "
            f"`{type(x).__name__}`. Convert it with `jnp.asarray`, or leave it out."
        )


def tree_serialise_leaves(
    path_or_file: str | os.PathLike[str] | IO[bytes],
    pytree: Any,
    filter_spec: Any = default_serialise_filter_spec,
    is_leaf: Callable[[Any], bool] | None = None,
) -> None:
    """Write the leaves of `pytree` one after another, as Equinox does: byte for byte the same file.

    The file has no names, no structure and no digests, so `tree_deserialise_leaves` can only trust
    it. For files of your own use `save`.

    Args:
      path_or_file: A path, to which `.eqx` is added if it has no suffix; the file is replaced in one
        step, so that after an error or a crash the old one or the new one is there, whole. Or a
        binary file, written from where it stands, so that one file may hold several trees.
      pytree: Any PyTree.
      filter_spec: What writes a leaf: a function of a file and a leaf, or a prefix of `pytree` of
        such functions.
      is_leaf: What to take for a leaf besides, as in `jax.tree_util.tree_flatten`.

    Raises:
      LeafError: A leaf could not be written, because of what its `__cause__` says.
      ValueError: `filter_spec` is no prefix of `pytree`.
      TypeError: `path_or_file` is no path and no binary file.
      OSError: The file cannot be written.

    Example:
      >>> import io
      >>> file = io.BytesIO()
      >>> eqx_serialise.tree_serialise_leaves(file, [jnp.arange(3.0), 0.5, jax.nn.relu])
      >>> _ = file.seek(0)
      >>> eqx_serialise.tree_deserialise_leaves(file, [jnp.zeros(3), 0.0, jax.nn.relu])[:2]
      [Array([0., 1., 2.], dtype=float32), 0.5]
    """
    function = "tree_serialise_leaves"
    with writable(eqx_path(path_or_file), function) as file:

        def write(path: tuple[Any, ...], spec: Any, leaf: Any) -> None:
            try:
                checked(spec, function)(file, leaf)
            except OSError:
                raise  # The disk is full: no fault of the leaf.
            except Exception as error:
                raise leaf_error(path, f"in `{function}`", error) from error

        map_with_functions(write, filter_spec, pytree, is_leaf)
