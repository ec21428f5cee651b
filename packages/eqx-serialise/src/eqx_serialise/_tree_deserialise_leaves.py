"""Read the leaves of a PyTree that were written one after another, without names: the format of Equinox."""

import os
from collections.abc import Callable
from typing import IO, Any, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._cast import converted
from ._checkpoint_error import CheckpointError
from ._eqx_path import eqx_path
from ._leaf_error import LeafError, leaf_error
from ._leaf_functions import checked, map_with_functions
from ._npy import read_npy
from ._opened import Source, opened

_T = TypeVar("_T")
_REGISTERED = 2  # `isbuiltin` of a dtype that another package has given to NumPy.


def default_deserialise_filter_spec(f: IO[bytes], x: Any) -> Any:
    """Return one leaf, read as the kind of thing that `x` is.

    Args:
      f: A binary file that can seek, read from where it stands.
      x: The leaf of `like`: for a JAX array or a `jax.ShapeDtypeStruct` a JAX array is read, for a
        NumPy array a NumPy array, for a Python or NumPy scalar one of that type; anything else is
        returned as it is. The small dtypes that NumPy cannot name in a file (bfloat16, float8_*,
        int4, ...) are taken to be that of `x`.

    Raises:
      ValueError: There is no array, or a number does not fit into the type of `x`.
      TypeError: A complex number does not become a real one.

    Example:
      >>> import io
      >>> file = io.BytesIO()
      >>> np.save(file, np.float64(0.5))
      >>> _ = file.seek(0)
      >>> eqx_serialise.default_deserialise_filter_spec(file, 1.0)
      0.5
    """
    if isinstance(x, (jax.Array, jax.ShapeDtypeStruct)):
        return _to_jax(_named(read_npy(f), x.dtype))
    if isinstance(x, np.ndarray):
        return _named(read_npy(f), x.dtype)
    if isinstance(x, (bool, int, float, complex, np.generic)):
        return _to_scalar(_named(read_npy(f), getattr(x, "dtype", np.dtype(jnp.bfloat16))), type(x))
    return x


def _named(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Return `array` in a dtype for which NumPy writes no more than the size."""
    is_nameless = array.dtype.kind == "V" and array.dtype.names is None
    if is_nameless and getattr(dtype, "isbuiltin", 0) == _REGISTERED and dtype.itemsize == array.dtype.itemsize:
        return array.view(dtype)
    return array


def _to_jax(array: np.ndarray) -> jax.Array:
    if array.dtype.kind in "VSUmM" and not jnp.issubdtype(array.dtype, jnp.number):
        raise ValueError(f"an array of dtype {array.dtype}, which JAX has not")
    result = jnp.asarray(array)
    if result.dtype != array.dtype and array.dtype.kind in "iu":
        converted(array, result.dtype)  # JAX keeps 64-bit integers only if it is told to.
    return result


def _to_scalar(array: np.ndarray, kind: type) -> Any:
    item = array.item()
    result = kind(item)
    if isinstance(result, (bool, int, np.bool_, np.integer)) and result != item:
        raise ValueError(f"the number {item}, which is no {kind.__name__}")
    return result


def tree_deserialise_leaves(
    path_or_file: str | os.PathLike[str] | IO[bytes],
    like: _T,
    filter_spec: Any = default_deserialise_filter_spec,
    is_leaf: Callable[[Any], bool] | None = None,
) -> _T:
    """Return `like` with its leaves read from a file that `tree_serialise_leaves`, or Equinox, wrote.

    The leaves are in the order of the tree and have no names: two of one shape that have changed
    places are not noticed. `convert` makes a file of `save` out of such a file.

    Args:
      path_or_file: A path, to which `.eqx` is added if it has no suffix; such a file must end with
        the last leaf. Or a binary file that can seek, read from where it stands up to the end of
        the tree, so that one file may hold several.
      like: A tree of the same structure, or its shapes; it is left as it is.
      filter_spec: What reads a leaf: a function from a file and the leaf of `like` to the new leaf,
        or a prefix of `like` of such functions.
      is_leaf: What to take for a leaf besides, as in `jax.tree_util.tree_flatten`.

    Raises:
      LeafError: A leaf could not be read, because of what its `__cause__` says; or it is of another
        type, shape or dtype than in `like`.
      CheckpointError: The file, given by its path, goes on after the last leaf.
      ValueError: `filter_spec` is no prefix of `like`.
      TypeError: `path_or_file` is no path and no binary file.
      OSError: The file cannot be read.

    Example:
      >>> import io
      >>> file = io.BytesIO()
      >>> eqx_serialise.tree_serialise_leaves(file, {"weight": jnp.ones(2)})
      >>> _ = file.seek(0)
      >>> eqx_serialise.tree_deserialise_leaves(file, {"weight": jax.ShapeDtypeStruct((2,), jnp.float32)})
      {'weight': Array([1., 1.], dtype=float32)}
    """
    function = "tree_deserialise_leaves"
    with opened(eqx_path(path_or_file), function, method="read") as source:

        def read(path: tuple[Any, ...], spec: Any, leaf: Any) -> Any:
            start = source.file.tell()
            try:
                found = checked(spec, function)(source.file, leaf)
            except OSError:
                raise
            except Exception as error:
                raise leaf_error(path, f"from byte {start} on in `{source.call}`", error) from error
            _check_same(path, leaf, found, source)
            return found

        result = map_with_functions(read, filter_spec, like, is_leaf)
        if source.owned and source.file.read(1):
            raise CheckpointError(
                f"`{source.call}` must end with the last leaf of `like`; got more from byte "
                f"{source.file.tell() - 1} on. Build `like` just as the saved tree was built, or open the file "
                "yourself to read several trees from it."
            )
    return result


def _check_same(path: tuple[Any, ...], like: Any, found: Any, source: Source) -> None:
    advice = f"in `{source.call}`. Build `like` just as the saved tree was built."
    if not isinstance(found, _kind(like)):
        raise LeafError(
            f"Deserialised leaf at path '{jtu.keystr(path)}' has changed type from {type(like)} in `like` to "
            f"{type(found)} on disk, {advice}",
            path,
        )
    if not isinstance(like, (jax.Array, jax.ShapeDtypeStruct, np.ndarray, np.generic)):
        return
    for what in ("shape", "dtype"):
        before, after = getattr(like, what), getattr(found, what)
        if before != after:
            raise LeafError(
                f"Deserialised leaf at path {path} has changed {what} from {before} in `like` to {after} on disk, "
                f"{advice}",
                path,
            )


def _kind(like: Any) -> type:
    return jax.Array if isinstance(like, (jax.Array, jax.ShapeDtypeStruct)) else type(like)
