"""Carry a PyTree through JAX's control flow: its arrays go in, the rest stays outside and must not change."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from ._axes import short
from ._jit_output import are_traceable

NUMBERS = (bool, int, float, complex)


class Split:
    """A PyTree taken apart into its arrays and the rest.

    Attributes:
      arrays: The arrays among the leaves, in order.
      rest: The leaves, with None in the places of the arrays.
      treedef: The structure.
    """

    __slots__ = ("arrays", "rest", "treedef")

    def __init__(self, tree: Any):
        leaves, self.treedef = jtu.tree_flatten(tree)
        traced = are_traceable(leaves)
        self.arrays = [leaf for leaf, is_traced in zip(leaves, traced, strict=True) if is_traced]
        self.rest = [None if is_traced else leaf for leaf, is_traced in zip(leaves, traced, strict=True)]

    def join(self, arrays: Iterable[Any]) -> Any:
        """Return the PyTree with these arrays."""
        return self.treedef.unflatten(self.leaves(arrays))

    def leaves(self, arrays: Iterable[Any]) -> list[Any]:
        """Return the leaves with these arrays among them."""
        remaining = iter(arrays)
        return [next(remaining) if leaf is None else leaf for leaf in self.rest]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One difference between two PyTrees that should be alike.

    Attributes:
      path: Where, as a key path.
      kind: "structure", "static value", "type", "shape", "dtype", "shape and dtype" or "sharding".
      message: The old and the new.
      numeric: Whether it is a Python number that should be an array.
    """

    path: str
    kind: str
    message: str
    numeric: bool = False

    def __str__(self) -> str:
        return f"  {self.path}: {self.kind} {self.message}"


def changes(old: Any, new: Any, root: str) -> list[Change]:
    """Return what of `new` JAX could not take in the place of `old`.

    An array may be replaced by a Python number, and its weak type by a strong one of the same or a wider kind. What is
    no array must stay the same, and of the same type.

    Args:
      old: Any PyTree.
      new: The PyTree that should be like it.
      root: What to call them at the start of each path.
    """
    leaves, treedef = jtu.tree_flatten_with_path(old)
    new_leaves, new_treedef = jtu.tree_flatten(new)
    if treedef != new_treedef:
        return list(_structural(old, new, root))
    return [
        change
        for (path, leaf), other in zip(leaves, new_leaves, strict=True)
        if (change := leaf_change(f"{root}{jtu.keystr(path)}", leaf, other, widening=True)) is not None
    ]


def _structural(old: Any, new: Any, root: str) -> Iterator[Change]:
    kinds = {"structure": "structure", "static": "static value"}
    for found in eqx_core.tree_diff(_with_structs(old), _with_structs(new)):
        if found.kind in kinds:
            yield Change(f"{root}{found.path}", kinds[found.kind], found.message)


def _with_structs(tree: Any) -> Any:
    """Return the tree with structs for its arrays, whose values are not known while they are traced."""
    return jtu.tree_map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if eqx_core.is_array(leaf) else leaf, tree
    )


def leaf_change(path: str, old: Any, new: Any, widening: bool = False) -> Change | None:
    """Return what is wrong if one leaf is put in the place of another; None if nothing is.

    Args:
      path: Where they are.
      old: Any leaf.
      new: The leaf that should be like it. A Python number is like an array of no dimensions.
      widening: Whether a weakly typed array may be replaced by one of a wider dtype.
    """
    if old is new:
        return None
    from_array, to_array = are_traceable([old, new])
    if from_array and (to_array or isinstance(new, NUMBERS)):
        return _array_change(path, old, new, widening)
    if from_array or to_array:
        message = f"{short(old)} became {short(new)}"
        return Change(path, "type", message, numeric=isinstance(old, NUMBERS))
    typed_key = eqx_core.internal.typed_key
    if typed_key(old) == typed_key(new):
        return None
    before, after = short(old), short(new)
    if before == after or type(old) is not type(new):
        after = f"another {after}" if before == after else f"{after} ({type(new).__name__})"
    return Change(path, "static value", f"{before} became {after}", numeric=isinstance(old, NUMBERS))


def _array_change(path: str, old: Any, new: Any, widening: bool) -> Change | None:
    before, after = jax.typeof(old), jax.typeof(new)
    kinds = [kind for kind in ("shape", "dtype") if getattr(before, kind) != getattr(after, kind)]
    if kinds == ["dtype"] and widening and _widens(old, new):
        return None
    if kinds:
        return Change(path, " and ".join(kinds), f"{short(old)} became {short(new)}")
    # With explicit axes the sharding is part of an array's type; with others it is the same for all.
    specs = before.sharding.spec, after.sharding.spec
    return Change(path, "sharding", "{} became {}".format(*specs)) if specs[0] != specs[1] else None


def _widens(old: Any, new: Any) -> bool:
    """Tell whether JAX will convert a weakly typed array so that it fits."""
    before, after = jax.typeof(old), jax.typeof(new)
    if not before.weak_type or jnp.issubdtype(after.dtype, jax.dtypes.extended):
        return False
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(old, new) == after.dtype


def explain(changes: Sequence[Change]) -> str:
    """Return the changes, one to a line, and what to do about them."""
    lines = "\n".join(map(str, changes))
    numbers = [change.path for change in changes if change.numeric]
    if numbers:
        return f"{lines}\nA Python number is static: make it `jnp.asarray(...)` at `{'`, `'.join(numbers)}` to let it change."
    return f"{lines}\n{_ADVICE[changes[0].kind]}"


_ADVICE = {
    "structure": "Return a PyTree of the same structure.",
    "static value": "Return what is no array as it was, or make it an array.",
    "type": "Return an array where there was one, and what is no array as it was.",
    "shape": "Give it the same shape from the start, for example by `jnp.broadcast_to`.",
    "dtype": "Convert one of them by `.astype`.",
    "shape and dtype": "Give it the same shape and dtype from the start.",
    "sharding": "Convert one of them by `jax.sharding.reshard`.",
}


def carried(option: str, carry: Split, given: Any, returned: Any, root: str) -> list[Any]:
    """Return the arrays of the carry that a step of a loop has returned, as many as the carry has.

    Args:
      option: How the user has given the step: the start of an error.
      carry: The first carry, taken apart.
      given: The carry that the step was called with.
      returned: The carry that it has returned.
      root: What to call the carry at the start of each path.

    Raises:
      TypeError: It differs in more than the values of its arrays.
    """
    found = changes(given, returned, root)
    if found:
        raise TypeError(
            f"`{option}` must return a {root} of the structure, the shapes, the dtypes and the static values of that "
            f"which it gets; got:\n{explain(found)}"
        )
    return [leaf for leaf, own in zip(jtu.tree_leaves(returned), carry.rest, strict=True) if own is None]
