"""Say how the arrays that go into a jitted function and come out of it are distributed."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.tree_util as jtu
from jax.sharding import PartitionSpec, Sharding

from ._axes import short
from ._jax_compat import flatten_with_none, hide_from_tracebacks
from ._jit_output import OncePassed, Output, pack
from ._prefix import parts
from ._shard import filter_shard

hide_from_tracebacks(__file__)


@dataclasses.dataclass(frozen=True)
class Placement:
    """A tree of shardings that can be hashed.

    Attributes:
      option: Which option of `filter_jit` it is.
      leaves: Shardings, `PartitionSpec`s and None.
      treedef: Their structure, in which None is a leaf.
    """

    option: str
    leaves: tuple[Any, ...]
    treedef: Any

    @property
    def tree(self) -> Any:
        return self.treedef.unflatten(self.leaves)


def placement(option: str, tree: Any) -> Placement:
    """Return the tree of shardings that the user has passed as `option`.

    Raises:
      TypeError: A leaf is none.
    """
    leaves, treedef = flatten_with_none(tree)
    for leaf in leaves:
        if not (leaf is None or isinstance(leaf, (Sharding, PartitionSpec))):
            raise TypeError(
                f"`filter_jit({option}=...)` must consist of shardings, `PartitionSpec`s and None; got {short(leaf)}. "
                f"Write `jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(...))`."
            )
    return Placement(option, tuple(leaves), treedef)


def of_each_leaf(shardings: Placement, call: Any) -> list[Any]:
    """Return for each leaf of a call `(fun, args, kwargs)` where it is placed, None if that is left open.

    Raises:
      ValueError: The shardings are not a prefix of the arguments.
    """
    fun, args, kwargs = call
    tree = shardings.tree
    by_name = tree if jtu.treedef_is_leaf(shardings.treedef) else None
    leaves, subtrees, _ = parts("filter_jit(in_shardings=...)", (tree, by_name), (args, kwargs))
    placed = [leaf for leaf, subtree in zip(leaves, subtrees, strict=True) for _ in jtu.tree_leaves(subtree)]
    return [None] * len(jtu.tree_leaves(fun)) + placed


def placed(
    fun: Callable[..., Output], inputs: Sequence[Any] | None, outputs: Placement | None
) -> Callable[..., Output]:
    """Return a function of arrays that is to be traced, with its arguments and results distributed as said.

    That `jax.jit` distributes the arguments itself is not enough: explicit axes would not be part of their types, and
    the first operation would gather them.

    Args:
      fun: A function from arrays to an `Output`.
      inputs: For each array where it is placed, or None.
      outputs: Likewise for the results.

    Raises:
      ValueError: On calling it, the shardings are not a prefix of the output.
    """

    def traced(*arrays: Any) -> Output:
        __tracebackhide__ = True
        if inputs is not None:
            arrays = tuple(map(filter_shard, arrays, inputs))
        out = fun(*arrays)
        return out if outputs is None else pack(_place_outputs(outputs, out()), checked=type(out.func) is OncePassed)

    traced.__name__ = traced.__qualname__ = fun.__name__
    traced.__dict__.update(fun.__dict__)
    return traced


def _place_outputs(shardings: Placement, out: Any) -> Any:
    leaves, subtrees, treedef = parts("filter_jit(out_shardings=...)", shardings.tree, out)
    return treedef.unflatten(map(filter_shard, subtrees, leaves))
