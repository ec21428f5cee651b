"""Put the arrays of a PyTree where they belong: `filter_shard`."""

from typing import Any

import jax
import jax.core
import jax.tree_util as jtu
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from ._are_arrays import are_arrays
from ._axes import short
from ._jax_compat import hide_from_tracebacks

hide_from_tracebacks(__file__)


def filter_shard(x: Any, device_or_shardings: Any) -> Any:
    """Return `x` with its arrays on a device, or distributed over several; whatever else it holds stays as it is.

    Outside of `jax.jit` it moves the data, and the results are committed to their place. Inside it is a constraint on
    the compiler. It is the same for meshes with automatic and with explicit axes.

    Args:
      x: Any PyTree.
      device_or_shardings: A device, a sharding, or a PyTree of these that has the structure of `x` or of its upper
        part. None leaves arrays where they are. A `PartitionSpec` is for the mesh set by `jax.set_mesh`.

    Raises:
      ValueError: The structure is not that of `x`, or there is a `PartitionSpec` but no mesh.
      TypeError: A leaf of `device_or_shardings` is none of these.

    Example:
      >>> device = jax.devices()[0]
      >>> x, text = eqx_filter.filter_shard((jnp.ones(2), "text"), device)
      >>> x.devices() == {device}, x.committed, text
      (True, True, 'text')
    """
    __tracebackhide__ = True
    leaves, treedef = jtu.tree_flatten(x)
    places = _place_of_each(x, device_or_shardings)
    arrays = are_arrays(leaves)
    return treedef.unflatten(
        [
            _put(leaf, _sharding(place)) if is_array and place is not _STAY else leaf
            for leaf, place, is_array in zip(leaves, places, arrays, strict=True)
        ]
    )


_STAY: Any = object()


def _place_of_each(x: Any, places: Any) -> list[Any]:
    """Return for each leaf of `x` what `places`, a prefix of it, says."""
    # None in `places` is a leaf, but None in `x` is structure.
    places = jtu.tree_map(lambda place: _STAY if place is None else place, places, is_leaf=lambda node: node is None)
    try:
        return jtu.tree_leaves(jax.tree.broadcast(places, x))
    except ValueError as error:
        raise ValueError(
            f"`filter_shard(device_or_shardings=...)` must have the structure of `x` or of its upper part. In detail: "
            f"{error}"
        ) from None


def _sharding(place: Any) -> Sharding:
    if isinstance(place, jax.Device):
        return SingleDeviceSharding(place)
    if isinstance(place, PartitionSpec):
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty:
            raise ValueError(
                f"`filter_shard(device_or_shardings=...)` must be a sharding where no mesh is set; got `{place}`. "
                f"Write `jax.sharding.NamedSharding(mesh, {place})`, or set the mesh by `jax.set_mesh(mesh)`."
            )
        return NamedSharding(mesh, place)
    if not isinstance(place, Sharding):
        raise TypeError(
            f"`filter_shard(device_or_shardings=...)` must consist of devices, shardings and None; got "
            f"{short(place)}. Pick a device from `jax.devices()`."
        )
    return place


def _put(array: Any, sharding: Sharding) -> Any:
    concrete = not isinstance(array, jax.core.Tracer)
    if concrete and not (isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, jax.sharding.AbstractMesh)):
        # Unlike a constraint, it also moves what is committed to another device.
        return jax.device_put(array, sharding)
    if isinstance(sharding, NamedSharding) and _is_explicit(sharding):
        return jax.sharding.reshard(array, sharding)
    return jax.lax.with_sharding_constraint(array, sharding)


def _is_explicit(sharding: NamedSharding) -> bool:
    """Tell whether the sharding is about explicit axes, on which a constraint would only be an assertion."""
    mesh = sharding.mesh
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    named = [
        name for part in sharding.spec if part is not None for name in (part if isinstance(part, tuple) else [part])
    ]
    return AxisType.Explicit in ([kinds[name] for name in named if name in kinds] or kinds.values())
