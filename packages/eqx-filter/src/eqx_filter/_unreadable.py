"""Make arrays that raise when they are read, for the results of a program that has failed."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu

from ._jax_compat import error_array


def unreadable(compiled: Any, text: str) -> Any:
    """Return what a program would have returned, of arrays that raise a `JaxRuntimeError` when they are read.

    So does what is computed of them by other programs.

    Args:
      compiled: The program, a `jax.stages.Compiled` for one device.
      text: What the error says.

    Returns:
      The results, or None if they are spread over devices, or this version of JAX cannot make such arrays.
    """
    structs, treedef = jtu.tree_flatten(compiled.out_info)
    arrays = []
    for struct, sharding in zip(structs, jtu.tree_leaves(compiled.output_shardings), strict=True):
        device, *others = sharding.device_set
        arrays.append(None if others else _array(struct, device, text))
    return None if any(array is None for array in arrays) else treedef.unflatten(arrays)


def _array(struct: Any, device: Any, text: str) -> Any:
    if not jnp.issubdtype(struct.dtype, jax.dtypes.prng_key):
        return error_array(struct, device, text)
    key = jax.ShapeDtypeStruct(struct.shape, struct.dtype)
    impls: list[Any] = []
    data = error_array(
        jax.eval_shape(lambda key: (impls.append(jr.key_impl(key)), jr.key_data(key))[1], key), device, text
    )
    return None if data is None else jr.wrap_key_data(data, impl=impls[0])
