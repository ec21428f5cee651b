"""Write the rules of a JAX primitive as functions of whatever PyTrees its arguments and results are."""

import functools
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

import eqx_core
import eqx_core.internal

from .._axes import short
from .._jax_compat import AbstractValue, hide_from_tracebacks, is_zero, materialise, zero_tangent
from .._jit_output import are_traceable
from .._prefix import parts

hide_from_tracebacks(__file__)

_Rule = Callable[..., Any]


def filter_primitive_bind(prim: Any, *args: Any) -> Any:
    """Call a primitive with any arguments, and return whatever its rules return.

    The arrays among the leaves are its operands; all else is in its parameters, where JAX finds the jaxprs.

    Args:
      prim: A JAX primitive with `multiple_results`, whose rules are made by the other functions of this family.
      *args: Any PyTrees.

    Raises:
      ValueError: `prim.multiple_results` is not set.
      RuntimeError: The rule that JAX has called is not made by `filter_primitive_...`.

    Example:
      >>> from jax.extend.core import Primitive
      >>> from eqx_filter.internal import filter_primitive_bind, filter_primitive_def
      >>> scale_p = Primitive("scale")
      >>> scale_p.multiple_results = True
      >>> @scale_p.def_impl
      ... @filter_primitive_def
      ... def scale(model, x):
      ...     return {"out": model["factor"] * x, "by": model["name"]}
      >>> filter_primitive_bind(scale_p, {"factor": 3.0, "name": "three"}, jnp.array(2.0))
      {'by': 'three', 'out': Array(6., dtype=float32...)}
    """
    if not prim.multiple_results:
        raise ValueError(
            f"`filter_primitive_bind(prim=...)` must be a primitive of multiple results; got `{prim}`. "
            f"Set `prim.multiple_results = True` before its rules are defined."
        )
    leaves, treedef = jtu.tree_flatten(args)
    traced = are_traceable(leaves)
    arrays = [leaf for leaf, is_traced in zip(leaves, traced, strict=True) if is_traced]
    static = tuple(_ARRAY if is_traced else _hashable(leaf) for leaf, is_traced in zip(leaves, traced, strict=True))
    flatten = Flatten(prim)
    return flatten.unflatten(prim.bind(*arrays, static=static, treedef=treedef, flatten=flatten))


def filter_primitive_def(rule: _Rule) -> _Rule:
    """Return `rule(*args)` in the form of `prim.def_impl` and `prim.def_abstract_eval`.

    For the latter a `jax.core.ShapedArray` stands for each array, in the arguments and in the result.
    """

    @functools.wraps(rule)
    def flat_rule(*arrays: Any, static: tuple[Any, ...], treedef: Any, flatten: "Flatten") -> list[Any]:
        return flatten.flatten(rule(*_inputs(arrays, static, treedef)))

    return flat_rule


def filter_primitive_jvp(rule: _Rule) -> _Rule:
    """Return `rule(primals, tangents)` in the form of `jax.interpreters.ad.primitive_jvps`.

    The rule gets two tuples of the same structure and returns the pair of the result and its tangent. In tangents None
    stands for a symbolic zero and for whatever is no array. In the one returned it may stand for a whole subtree.
    """

    @functools.wraps(rule)
    def flat_rule(
        primals: Sequence[Any], tangents: Sequence[Any], *, static: tuple[Any, ...], treedef: Any, flatten: "Flatten"
    ) -> tuple[list[Any], list[Any]]:
        nones = [None if is_zero(tangent) else tangent for tangent in tangents]
        out, tangent_out = rule(_inputs(primals, static, treedef), _alone(nones, static, treedef))
        arrays = flatten.flatten(out)
        moved = flatten.select("filter_primitive_jvp(rule)(...)[1]", tangent_out)
        pairs = zip(arrays, moved, strict=True)
        return arrays, [zero_tangent(array) if is_zero(tangent) else tangent for array, tangent in pairs]

    return flat_rule


def filter_primitive_transpose(rule: _Rule | None = None, *, materialise_zeros: bool = False) -> Any:
    """Return `rule(inputs, cotangents)` in the form of `jax.interpreters.ad.primitive_transposes`.

    The rule gets the arguments, with a `jax.interpreters.ad.UndefinedPrimal` for each array in which it is linear; and
    the cotangents of the result, with None for a symbolic zero and for whatever is no array. It returns the cotangents
    of the arguments: a tuple with None for a zero, or for a whole subtree of them.

    Args:
      rule: The function; left out, the result is a decorator.
      materialise_zeros: Whether the rule gets arrays for symbolic zeros.
    """
    if rule is None:
        return functools.partial(filter_primitive_transpose, materialise_zeros=materialise_zeros)

    @functools.wraps(rule)
    def flat_rule(
        cotangents: Sequence[Any], *arrays: Any, static: tuple[Any, ...], treedef: Any, flatten: "Flatten"
    ) -> list[Any]:
        zero = materialise if materialise_zeros else lambda _: None
        given = [zero(cotangent) if is_zero(cotangent) else cotangent for cotangent in cotangents]
        out = rule(_inputs(arrays, static, treedef), flatten.like_output(given))
        if not isinstance(out, tuple):
            raise TypeError(
                f"`filter_primitive_transpose(rule=...)` must return a tuple of one cotangent for each argument; got "
                f"`{type(out).__qualname__}`. Return `(cotangent,)` for a single one, None in it for a zero."
            )
        return _select("filter_primitive_transpose(rule)(...)", out, static, treedef)

    return flat_rule


def filter_primitive_batching(rule: _Rule) -> _Rule:
    """Return `rule(inputs, batch_axes)` in the form of `jax.interpreters.batching.primitive_batchers`.

    The rule gets the arguments and a tuple of the same structure with the axis of each array that is mapped over, None
    for all else. It returns the result, with an axis for the batch, and the structure of where it is, likewise.
    """

    @functools.wraps(rule)
    def flat_rule(
        arrays: Sequence[Any], axes: Sequence[Any], *, static: tuple[Any, ...], treedef: Any, flatten: "Flatten"
    ) -> tuple[list[Any], list[Any]]:
        out, out_axes = rule(_inputs(arrays, static, treedef), _alone(axes, static, treedef))
        return flatten.flatten(out), flatten.select("filter_primitive_batching(rule)(...)[1]", out_axes)

    return flat_rule


def materialise_zeros(primal: Any, tangent: Any, allow_struct: bool = False) -> Any:
    """Return `tangent`, or an array of zeros if it is None and `primal` can have a tangent.

    Args:
      primal: Any leaf. Integers and booleans have zeros of dtype float0.
      tangent: Its tangent, or None.
      allow_struct: Whether a `jax.ShapeDtypeStruct` counts as an array.

    Example:
      >>> materialise_zeros(jnp.ones(2), None)
      Array([0., 0.], dtype=float32)
    """
    is_struct = allow_struct and isinstance(primal, jax.ShapeDtypeStruct)
    if tangent is not None or not (is_struct or eqx_core.is_array_like(primal)):
        return tangent
    primal = primal if is_struct or eqx_core.is_array(primal) else jnp.asarray(primal)
    if jnp.issubdtype(primal.dtype, np.inexact):
        return jnp.zeros(primal.shape, primal.dtype) if is_struct else jnp.zeros_like(primal)
    return np.zeros(primal.shape, jax.dtypes.float0)


class _Array:
    """Stands for an array among static leaves."""

    def __repr__(self) -> str:
        return "*"


_ARRAY = _Array()


class _Unhashable:
    """Holds a leaf that has no hash, which JAX wants of a parameter; equal to itself alone."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


def _hashable(leaf: Any) -> Any:
    try:
        hash(leaf)
    except TypeError:
        return _Unhashable(leaf)
    return leaf


def _filled(static: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """Return the static leaves with arrays in the places for them."""
    remaining = iter(arrays)
    return [next(remaining) if leaf is _ARRAY else leaf for leaf in static]


def _inputs(arrays: Sequence[Any], static: Sequence[Any], treedef: Any) -> Any:
    leaves = _filled(static, arrays)
    return treedef.unflatten([leaf.value if isinstance(leaf, _Unhashable) else leaf for leaf in leaves])


def _alone(values: Sequence[Any], static: Sequence[Any], treedef: Any) -> Any:
    """Return the tree with `values` in the places of arrays, and None for all else."""
    return treedef.unflatten(_filled([leaf if leaf is _ARRAY else None for leaf in static], values))


def _select(what: str, tree: Any, static: Sequence[Any], treedef: Any) -> list[Any]:
    """Return what `tree` has in the places of arrays; in it, None may stand for a subtree."""
    selected: list[Any] = [None] * len(static)
    leaves, places, _ = parts(what, tree, treedef.unflatten(range(len(static))))
    for leaf, place in zip(leaves, places, strict=True):
        if leaf is None:
            continue
        if not isinstance(place, int) or static[place] is not _ARRAY:
            raise TypeError(
                f"`{what}` must have None in the place of whatever is no array; got `{short(leaf)}` for "
                f"`{'a subtree' if not isinstance(place, int) else short(static[place])}`. Return None there."
            )
        selected[place] = leaf
    return [leaf for leaf, kept in zip(selected, static, strict=True) if kept is _ARRAY]


class Flatten:
    """What one call of a primitive returns, beside arrays: known as soon as one of its rules has run."""

    __slots__ = ("_known", "_prim")

    def __init__(self, prim: Any):
        self._prim = prim
        self._known: tuple[tuple[Any, ...], Any] | None = None

    def __repr__(self) -> str:
        return "..." if self._known is None else str(self._known[1])

    def flatten(self, tree: Any) -> list[Any]:
        """Return the arrays of a result, and keep all else."""
        leaves, treedef = jtu.tree_flatten(tree)
        pairs = list(zip(leaves, are_traceable(leaves), strict=True))
        static = tuple(_ARRAY if is_traced or isinstance(leaf, AbstractValue) else leaf for leaf, is_traced in pairs)
        if self._known is None:
            self._known = static, treedef
        elif treedef != self._known[1] or not all(map(_agree, static, self._known[0])):
            raise RuntimeError(
                f"The rules of the primitive `{self._prim}` must return the same structure and the same static values; "
                f"got {_shown(static, treedef)} after {_shown(*self._known)}. For each array `abstract_eval` returns a "
                f"`jax.core.ShapedArray`."
            )
        return [leaf for leaf, kept in zip(leaves, static, strict=True) if kept is _ARRAY]

    def unflatten(self, arrays: Sequence[Any]) -> Any:
        """Return the result with these arrays."""
        static, treedef = self._structure()
        return treedef.unflatten(_filled(static, arrays))

    def like_output(self, values: Sequence[Any]) -> Any:
        """Return a tree like the result, with `values` in the places of arrays and None for all else."""
        return _alone(values, *self._structure())

    def select(self, what: str, tree: Any) -> list[Any]:
        """Return what `tree`, which is like the result, has in the places of arrays."""
        return _select(what, tree, *self._structure())

    def _structure(self) -> tuple[tuple[Any, ...], Any]:
        if self._known is None:
            raise RuntimeError(
                f"`filter_primitive_bind(prim=...)` must be a primitive whose rules are made by `filter_primitive_def`, "
                f"`filter_primitive_jvp` and the like; got `{self._prim}`, of which another rule was called. Wrap that "
                f"rule as well."
            )
        return self._known


def _agree(new: Any, old: Any) -> bool:
    if new is old:
        return True
    if type(new) is not type(old):
        return False
    # Jaxprs, functions and the like are made anew by each rule.
    by_identity = type(new).__eq__ is object.__eq__
    return by_identity or eqx_core.internal.typed_key(new) == eqx_core.internal.typed_key(old)


def _shown(static: tuple[Any, ...], treedef: Any) -> str:
    return "`" + textwrap.shorten(str(treedef.unflatten(static)), 200, placeholder=" ...") + "`"
