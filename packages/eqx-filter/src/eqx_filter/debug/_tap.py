"""The mark that a tapped call leaves in a program: the primitive `tap_p`."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._jax_compat import (
    VmapAxis,
    define_batching,
    define_derivatives,
    define_lowering,
    hide_from_tracebacks,
    new_primitive,
    zero_tangent,
)
from .._jit_output import are_traceable

hide_from_tracebacks(__file__)

Axes = tuple[int | None, ...]
"""For each `jax.vmap` around a tap, outermost first: None if the array has its axis, else its length."""


@dataclasses.dataclass(frozen=True)
class Tap:
    """What is put around the calls of one part of a model: it leaves their results in the program under a name.

    Attributes:
      owner: Tells the taps of one `taps` from those of another around it.
      path: The name.
      change: What becomes of the activation, apart from `function`.
      function: What it is replaced by.
    """

    owner: tuple[str, ...]
    path: str
    change: Literal["", "replace", "perturb"] = ""
    function: "Identical | None" = None

    def __call__(self, call: Callable[[], Any]) -> Any:
        activation = call()
        if self.function is not None:
            activation = self.function.fun(activation)
        arrays, structure = take_apart(activation)
        axes: tuple[Axes, ...] = ((),) * len(arrays)
        return structure.put_together(tap_p.bind(*arrays, tap=self, structure=structure, batches=axes))


@dataclasses.dataclass(frozen=True, eq=False)
class Identical:
    """A function that is equal to itself alone, whatever it holds."""

    fun: Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Structure:
    """A PyTree without its arrays.

    Attributes:
      treedef: Its structure.
      rest: Its leaves, with `ARRAY` for each array.
    """

    treedef: Any
    rest: tuple[Any, ...]

    def put_together(self, arrays: Sequence[Any]) -> Any:
        each = iter(arrays)
        return self.treedef.unflatten([next(each) if leaf is ARRAY else leaf for leaf in self.rest])


ARRAY = type("Array", (), {"__repr__": lambda self: "array"})()


def take_apart(tree: Any) -> tuple[list[Any], Structure]:
    """Return the arrays of a PyTree, and all else."""
    leaves, treedef = jtu.tree_flatten(tree)
    traced = are_traceable(leaves)
    rest = tuple(ARRAY if is_array else leaf for leaf, is_array in zip(leaves, traced, strict=True))
    return [leaf for leaf, is_array in zip(leaves, traced, strict=True) if is_array], Structure(treedef, rest)


tap_p = new_primitive("tap")
tap_p.multiple_results = True
tap_p.def_impl(lambda *xs, **_: list(xs))
tap_p.def_abstract_eval(lambda *avals, **_: list(avals))
define_lowering(tap_p, lambda *xs, **_: list(xs))


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[list[Any], list[Any]]:
    out = tap_p.bind(*primals, **params)
    # A value put in the place of the activation does not depend on what the activation depends on.
    return out, list(map(zero_tangent, out) if params["tap"].change == "replace" else tangents)


define_derivatives(tap_p, _jvp, lambda cotangents, *_, **__: list(cotangents))


def _batch(axis: VmapAxis, xs: Sequence[Any], places: Sequence[int | None], **params: Any) -> tuple[list[Any], Any]:
    if params["tap"].change:
        # What comes in may differ between the entries of the batch.
        xs = [jnp.broadcast_to(x, (axis.size, *x.shape)) if p is None else x for x, p in zip(xs, places, strict=True)]
        places = [0 if place is None else place for place in places]
    xs = [x if place is None else jnp.moveaxis(x, place, 0) for x, place in zip(xs, places, strict=True)]
    params["batches"] = tuple(
        (axis.size if place is None else None, *inner) for place, inner in zip(places, params["batches"], strict=True)
    )
    return tap_p.bind(*xs, **params), [None if place is None else 0 for place in places]


define_batching(tap_p, _batch)


def with_axes(x: Any, axes: Axes) -> Any:
    """Return an array that has the axis of each `jax.vmap` that was around it, the outermost first."""
    missing = [i for i, length in enumerate(axes) if length is not None]
    if not missing:
        return x
    expanded = jax.lax.expand_dims(x, missing)
    shape = [there if length is None else length for there, length in zip(expanded.shape, axes, strict=False)]
    return jnp.broadcast_to(expanded, (*shape, *expanded.shape[len(axes) :]))
