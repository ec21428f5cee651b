"""Move the arrays of a PyTree to a device or a sharding: `filter_device_put`."""

from typing import Any

import jax

from ._carry import Split
from ._prefix import parts


def filter_device_put(x: Any, device: Any = None, *, donate: bool = False, may_alias: bool | None = None) -> Any:
    """Return `x` with its arrays on the device, or sharded as is said; whatever is no array stays as it is.

    It is `jax.device_put` for anything. To constrain a sharding within `filter_jit` without moving anything at once, use
    `filter_shard`.

    Args:
      x: Any PyTree. NumPy arrays become JAX arrays, typed PRNG keys are arrays as well.
      device: A device or a sharding; under `jax.set_mesh` also a `jax.sharding.PartitionSpec`. Or a tree of these whose
        structure is the upper part of that of `x`. None leaves arrays of JAX where they are, and moves those of NumPy to
        the default device.
      donate: Whether the arrays of `x` may be overwritten.
      may_alias: Whether a result may share memory with `x`; None to do so where nothing has to be moved.

    Raises:
      ValueError: `device` is not the upper part of `x`, or a sharding does not suit the shape of an array.

    Example:
      >>> model = {"weight": np.ones(2, np.float32), "activation": jax.nn.relu}
      >>> model = filter_device_put(model, jax.devices()[1])
      >>> print(model["weight"].device == jax.devices()[1], model["activation"] is jax.nn.relu)
      True True
    """
    devices, subtrees, treedef = parts("filter_device_put(device=...)", device, x)
    splits = [Split(subtree) for subtree in subtrees]
    arrays = jax.device_put([split.arrays for split in splits], devices, donate=donate, may_alias=may_alias)
    return treedef.unflatten([split.join(moved) for split, moved in zip(splits, arrays, strict=True)])
