"""Room for a number of states, which are written and read where they lie: `new_slots`, `blank_slots`, `write_slot`, `read_slot`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu


def new_slots(state: Any, number: int) -> Any:
    """Return room for `number` PyTrees of arrays like `state`. What is in it is of no account, but of the right kind.

    Example:
      >>> new_slots({"a": jnp.ones(2)}, 3)["a"].shape
      (3, 2)
    """
    return jtu.tree_map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), state)


def write_slot(slots: Any, slot: Any, state: Any) -> Any:
    """Return the slots with `state` in that of index `slot`."""
    return jtu.tree_map(lambda array, x: jax.lax.dynamic_update_index_in_dim(array, x, slot, 0), slots, state)


def write_slot_if(pred: Any, slots: Any, slot: Any, state: Any) -> Any:
    """Return the slots with `state` in that of index `slot`, if `pred` is true."""
    # To select between all of the slots before and after would copy them.
    return write_slot(slots, slot, jtu.tree_map(lambda x, old: jnp.where(pred, x, old), state, read_slot(slots, slot)))


def read_slot(slots: Any, slot: Any) -> Any:
    """Return what is in the slot of index `slot`."""
    return jtu.tree_map(lambda array: jax.lax.dynamic_index_in_dim(array, slot, 0, keepdims=False), slots)


def blank_slots(types: Sequence[Any], number: int) -> list[Any]:
    """Return room for `number` lists of arrays, given their types.

    Example:
      >>> blank_slots([jax.ShapeDtypeStruct((2,), jnp.float32)], 3)[0].shape
      (3, 2)
    """
    return [_zeros(x, number) for x in types]


def _zeros(x: Any, number: int) -> jax.Array:
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jnp.zeros((number, *x.shape), x.dtype)
    # There is no zero among keys.
    impl: list[Any] = []

    def raw(key: jax.Array) -> jax.Array:
        impl.append(jr.key_impl(key))
        return jr.key_data(key)

    data = jax.eval_shape(raw, jax.ShapeDtypeStruct(x.shape, x.dtype))
    return jr.wrap_key_data(jnp.zeros((number, *data.shape), data.dtype), impl=impl[0])
