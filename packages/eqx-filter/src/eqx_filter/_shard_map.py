"""Run a function of anything on the shards of its arrays: `filter_shard_map`."""

import functools
from collections.abc import Callable, Set
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

import eqx_core

from ._carry import Split
from ._jax_compat import flatten_with_none
from ._prefix import parts
from ._transform import UNSET, Transformed


class ShardMapped(Transformed):
    """What `filter_shard_map` returns."""

    fun: Callable[..., Any]
    mesh: Mesh | AbstractMesh | None = eqx_core.field(static=True)
    in_specs: Any = eqx_core.field(static=True)
    infer: bool = eqx_core.field(static=True)
    out_specs: Any = eqx_core.field(static=True)
    axis_names: frozenset[Any] = eqx_core.field(static=True)
    check_vma: bool = eqx_core.field(static=True)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if kwargs:
            raise RuntimeError(
                f"keyword arguments cannot be used with functions wrapped with `filter_shard_map`, as `in_specs` is for "
                f"arguments by position; got {', '.join(kwargs)}. Pass them by position."
            )
        in_specs, groups, treedef = parts(_IN, self.in_specs, args)
        given = [Split(group) for group in groups]
        outs: list[Callable[[Any], Any]] = []

        def on_shards(arrays: list[list[Any]]) -> list[list[Any]]:
            __tracebackhide__ = True
            out = self.fun(*_join(treedef, given, arrays))
            _, groups, out_treedef = parts(_OUT, self.out_specs, out)
            splits = [Split(group) for group in groups]
            outs.append(functools.partial(_join, out_treedef, splits))
            return [split.arrays for split in splits]

        options = {} if self.infer else {"in_specs": (_specs(_IN, in_specs),)}
        mapped = jax.shard_map(
            on_shards,
            mesh=self.mesh,
            out_specs=_specs(_OUT, flatten_with_none(self.out_specs)[0]),
            axis_names=self.axis_names,
            check_vma=self.check_vma,
            **options,
        )
        arrays = mapped([split.arrays for split in given])
        return outs[-1](arrays)


_IN, _OUT = "filter_shard_map(in_specs=...)", "filter_shard_map(out_specs=...)"


def filter_shard_map(
    fun: Callable[..., Any] = UNSET,
    *,
    out_specs: Any,
    in_specs: Any = UNSET,
    mesh: Mesh | AbstractMesh | None = None,
    axis_names: Set[Any] = frozenset(),
    check_vma: bool = True,
) -> Any:
    """Return a function that applies `fun` on each device to the shards of the arrays that are there.

    It is `jax.shard_map` for anything: what is no array is passed to `fun`, and returned by it, as it is. The arrays that
    `fun` itself holds are the same on all devices: to shard a model, make it an argument.

    Args:
      fun: A function of any arguments, which are passed by position. Left out, the result is a decorator.
      out_specs: How the arrays that `fun` returns are put together: a `jax.sharding.PartitionSpec`, or a tree of these
        whose structure is the upper part of that of the result. None is short for `PartitionSpec()`.
      in_specs: Likewise how each argument is sharded: one for all, or a tuple of one for each. Left out, each array is
        taken as it is sharded, which needs a mesh whose axes are explicit.
      mesh: The devices; by default those of `jax.set_mesh`.
      axis_names: The axes of the mesh that `fun` is mapped over; by default all.
      check_vma: Whether to check that what `out_specs` says is the same on several devices is so.

    Returns:
      A function of the same positional arguments. As the method of a class it takes `self` like any argument.

    Raises:
      ValueError: On calling it: the specs are not the upper part of the arguments or the result, or do not suit their
        shapes.
      TypeError: A spec is none.
      RuntimeError: On calling it: with keyword arguments.

    Example:
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
      >>> def predict(model, x):
      ...     return model["activation"](model["weight"] * x)
      >>> predict = filter_shard_map(predict, mesh=mesh, in_specs=(None, P("data")), out_specs=P("data"))
      >>> print(predict({"weight": jnp.array(2.0), "activation": jax.nn.relu}, jnp.array([-1.0, 1.0])))
      [0. 2.]
    """
    if fun is UNSET:
        options = {"in_specs": in_specs, "mesh": mesh, "axis_names": axis_names, "check_vma": check_vma}
        return functools.partial(filter_shard_map, out_specs=out_specs, **options)
    _specs(_OUT, flatten_with_none(out_specs)[0])
    infer = in_specs is UNSET
    in_specs = None if infer else tuple(in_specs) if type(in_specs) is list else in_specs
    _specs(_IN, flatten_with_none(in_specs)[0])
    mapped = ShardMapped(fun, mesh, in_specs, infer, out_specs, frozenset(axis_names), check_vma)
    return mapped


def _specs(option: str, specs: list[Any]) -> list[PartitionSpec]:
    """Return the specs with those that are None spelt out."""
    for spec in specs:
        if not (spec is None or isinstance(spec, PartitionSpec)):
            raise TypeError(
                f"`{option}` must consist of `jax.sharding.PartitionSpec`s, or None for what is the same everywhere; "
                f"got an object of type `{type(spec).__qualname__}`. Write `PartitionSpec('axis')`."
            )
    return [PartitionSpec() if spec is None else spec for spec in specs]


def _join(treedef: Any, splits: list[Split], arrays: list[list[Any]]) -> Any:
    return treedef.unflatten([split.join(group) for split, group in zip(splits, arrays, strict=True)])
