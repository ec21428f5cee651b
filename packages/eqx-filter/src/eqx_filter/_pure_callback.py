"""Call back into Python, with anything for arguments and results: `filter_pure_callback`."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.tree_util as jtu

import eqx_core

from ._are_arrays import are_arrays
from ._axes import short
from ._jax_compat import hide_from_tracebacks

hide_from_tracebacks(__file__)

VmapMethod = Literal["sequential", "sequential_unrolled", "expand_dims", "broadcast_all", "legacy_vectorized"]


def filter_pure_callback(
    callback: Callable[..., Any],
    *args: Any,
    result_shape_dtypes: Any,
    sharding: Any = None,
    vmap_method: VmapMethod | None = None,
    vectorized: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Return what a Python function returns, also under `jax.jit`, where it is called when the program runs.

    It must be pure: JAX may call it several times, or not at all if its result is not used.

    Args:
      callback: The function. It is called with arrays on the CPU, and with all else as it is given here.
      *args: Its arguments.
      result_shape_dtypes: What it will return. Leaves with a shape and a dtype, such as `jax.ShapeDtypeStruct`, stand
        for arrays; others are returned as they are, and must equal what the function returns.
      sharding: The sharding of the devices from which it is called.
      vmap_method: What `jax.vmap` shall do, as in `jax.pure_callback`; without it, refuse.
      vectorized: The old form of `vmap_method`: True for `"legacy_vectorized"`, False for `"sequential"`.
      **kwargs: Its keyword arguments.

    Raises:
      ValueError: Both `vmap_method` and `vectorized` are given.
      RuntimeError: The program runs, and the function returns other things than announced.

    Example:
      >>> def scale(x, factor):
      ...     return np.asarray(x) * np.float32(factor), "scaled"
      >>> struct = jax.ShapeDtypeStruct((2,), jnp.float32)
      >>> out, text = eqx_filter.filter_pure_callback(scale, jnp.ones(2), 3.0, result_shape_dtypes=(struct, "scaled"))
      >>> print(out, text)
      [3. 3.] scaled
    """
    __tracebackhide__ = True
    if vectorized is not None:
        vmap_method = _vmap_method(vmap_method, vectorized)
    leaves, treedef = jtu.tree_flatten((args, kwargs))
    where = [i for i, is_array in enumerate(are_arrays(leaves)) if is_array]
    expected, out_treedef = jtu.tree_flatten(result_shape_dtypes)
    out_where = [i for i, leaf in enumerate(expected) if hasattr(leaf, "shape") and hasattr(leaf, "dtype")]

    def on_arrays(*arrays: Any) -> list[Any]:
        call_args, call_kwargs = treedef.unflatten(_placed(leaves, where, arrays))
        out = callback(*call_args, **call_kwargs)
        return _checked(out, expected, out_treedef, out_where)

    structs = [jax.ShapeDtypeStruct(expected[i].shape, expected[i].dtype) for i in out_where]
    arrays = [leaves[i] for i in where]
    results = jax.pure_callback(on_arrays, structs, *arrays, sharding=sharding, vmap_method=vmap_method)
    return out_treedef.unflatten(_placed(expected, out_where, results))


def _placed(leaves: list[Any], where: list[int], arrays: Any) -> list[Any]:
    leaves = leaves.copy()
    for i, array in zip(where, arrays, strict=True):
        leaves[i] = array
    return leaves


def _checked(out: Any, expected: list[Any], treedef: Any, where: list[int]) -> list[Any]:
    """Return the arrays that a callback has returned, if the rest is as it was announced."""
    leaves, out_treedef = jtu.tree_flatten(out)
    if out_treedef != treedef:
        raise ValueError(_differs(f"the structure {out_treedef}", f"{treedef}"))
    for i, (leaf, announced) in enumerate(zip(leaves, expected, strict=True)):
        if i not in where and not eqx_core.tree_equal(leaf, announced):
            raise ValueError(_differs(short(leaf), short(announced)))
    return [leaves[i] for i in where]


def _differs(got: str, announced: str) -> str:
    return (
        f"`filter_pure_callback(callback=...)` must return what `result_shape_dtypes` announces, `{announced}`; got "
        f"`{got}`. Announce what it returns, arrays by `jax.ShapeDtypeStruct(shape, dtype)`."
    )


def _vmap_method(vmap_method: VmapMethod | None, vectorized: bool) -> VmapMethod:
    if vmap_method is not None:
        raise ValueError(
            f"`filter_pure_callback(vectorized=...)` must not be given beside `vmap_method`; got {vectorized!r} and "
            f"{vmap_method!r}. Leave out `vectorized`."
        )
    return "legacy_vectorized" if vectorized else "sequential"
