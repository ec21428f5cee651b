"""Push tangents through a function of models: `filter_jvp`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero

import eqx_core

from ._jax_compat import flatten_with_none, has_tangent, hide_from_tracebacks

hide_from_tracebacks(__file__)


def filter_jvp(
    fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], **kwargs: Any
) -> tuple[Any, Any]:
    """Return the value of `fn` and its derivative in the direction of `tangents`.

    None is a symbolic zero, on the way in and on the way out: what depends on no tangent of this call has None for
    tangent, and nothing is computed for it.

    Args:
      fn: A function, which may return anything.
      primals: Its positional arguments.
      tangents: The same structure, with None for each leaf that is held fixed. It must be so for all that are not
        floating-point or complex arrays or Python numbers.
      **kwargs: Keyword arguments of `fn`, held fixed.

    Returns:
      `(fn(*primals, **kwargs), tangent)`. The tangent has the structure of the value, with None for each leaf that is not
      an array or does not depend on a tangent that was given, whatever it may depend on besides.

    Raises:
      ValueError: The structures differ, or the shape of a tangent is not that of its primal.
      TypeError: The dtypes differ, or there is a tangent for what cannot be differentiated.

    Example:
      >>> out, tangent = eqx_filter.filter_jvp(lambda x, n: (x**n, n), (jnp.array(3.0), 2), (jnp.array(1.0), None))
      >>> print(out[0], out[1], tangent[0], tangent[1])
      9.0 2 6.0 None
    """
    __tracebackhide__ = True
    leaves, treedef = flatten_with_none(primals)
    directions, treedef_of_tangents = flatten_with_none(tangents)
    if treedef != treedef_of_tangents:
        raise ValueError(_different_structures(primals, tangents))
    where = [i for i, direction in enumerate(directions) if not _is_zero(direction)]
    if not where:
        out = fn(*primals, **kwargs)
        return out, jtu.tree_map(lambda _: None, out)
    moving = [_pair(leaves[i], directions[i], i, primals) for i in where]

    def of_moving(*arrays: Any) -> Any:
        __tracebackhide__ = True
        inside = leaves.copy()
        for i, array in zip(where, arrays, strict=True):
            inside[i] = array
        return fn(*treedef.unflatten(inside), **kwargs)

    return _jvp(of_moving, *zip(*moving, strict=True))


def _jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Return the value and the tangent, with None where it is zero for sure, of a function of arrays that all move."""
    known: list[Any] = []
    treedefs: list[Any] = []

    def split(level: Any, *arrays: Any) -> tuple[Any, Any]:
        """Return those of the outputs that move at this level, and the other traced ones."""
        __tracebackhide__ = True
        leaves, treedef = jtu.tree_flatten(fn(*arrays))
        treedefs.append(treedef)
        traced = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tracer)}
        known.extend(None if i in traced else leaf for i, leaf in enumerate(leaves))
        candidates = [i for i, leaf in traced.items() if eqx_core.is_inexact_array(leaf)]
        which, same = _which_move(level, [traced[i] for i in candidates])
        traced.update(zip(candidates, same, strict=True))
        moving = {i: traced.pop(i) for i, moves in zip(candidates, which, strict=True) if moves}
        return moving, traced

    # The additional input moves at this level and nowhere else, so that the question is answered here, also if no
    # output depends on the other inputs.
    level = np.zeros((), np.float32), np.ones((), np.float32)
    moving, tangent, traced = jax.jvp(split, (level[0], *primals), (level[1], *tangents), has_aux=True)
    treedef = treedefs[-1]
    value = [moving[i] if i in moving else traced.get(i, leaf) for i, leaf in enumerate(known)]
    return treedef.unflatten(value), treedef.unflatten([tangent.get(i) for i in range(len(known))])


def _which_move(level: Any, arrays: Sequence[Any]) -> tuple[Sequence[bool], Sequence[Any]]:
    """Return for each array whether it moves in the innermost JVP, in which `level` does; and the arrays."""
    # Looking at the tracers takes 0.6 of the time of a whole call with asking.
    which = has_tangent(level, arrays)
    return (which, arrays) if which is not None else _ask_which_move(level, arrays)


def _ask_which_move(level: Any, arrays: Sequence[Any]) -> tuple[Sequence[bool], Sequence[Any]]:
    """Do the same by the public means: a rule is told which of its tangents are symbolic zeros."""
    which: list[bool] = []

    @jax.custom_jvp
    def identity(level: Any, arrays: Sequence[Any]) -> Sequence[Any]:
        return arrays

    def rule(primals: Any, tangents: Any) -> Any:
        which.extend(type(tangent) is not SymbolicZero for tangent in tangents[1])
        return primals[1], tangents[1]

    identity.defjvp(rule, symbolic_zeros=True)
    arrays = identity(level, arrays)
    return which, arrays


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _is_zero(tangent: Any) -> bool:
    return tangent is None or getattr(tangent, "dtype", None) == jax.dtypes.float0


def _pair(primal: Any, tangent: Any, index: int, primals: Sequence[Any]) -> tuple[Any, Any]:
    """Return a primal and its tangent as arrays, or raise an error if they do not fit."""
    if not eqx_core.is_inexact_array_like(primal):
        raise TypeError(
            f"{_place(index, primals)} must be None, as `{eqx_core.tree_pformat(primal)}` cannot be differentiated; got "
            f"`{eqx_core.tree_pformat(tangent)}`. Set it to None, or make the primal a floating-point array."
        )
    try:
        primal, tangent = jnp.asarray(primal), jnp.asarray(tangent)
    except TypeError as error:
        raise TypeError(
            f"{_place(index, primals)} must be an array or None; got `{eqx_core.tree_pformat(tangent)}`. Pass "
            f"`jnp.zeros_like` of the primal for a zero that is computed with, None for one that is not."
        ) from error
    kinds = [eqx_core.tree_pformat(x) for x in (primal, tangent)]
    if primal.dtype != tangent.dtype:
        raise TypeError(
            f"{_place(index, primals)} must have the dtype of its primal, which is `{kinds[0]}`; got `{kinds[1]}`. "
            f"Convert it by `.astype`."
        )
    if primal.shape != tangent.shape:
        raise ValueError(
            f"{_place(index, primals)} must have the shape of its primal, which is `{kinds[0]}`; got `{kinds[1]}`. "
            f"Use `jnp.broadcast_to` if it is meant to be repeated."
        )
    return primal, tangent


def _place(index: int, primals: Sequence[Any]) -> str:
    path, _ = jtu.tree_flatten_with_path(primals, is_leaf=_is_none)[0][index]
    return f"`filter_jvp(tangents=...)`: the leaf `tangents{jtu.keystr(path)}`"


def _different_structures(primals: Any, tangents: Any) -> str:
    trees = [jtu.tree_flatten_with_path(tree, is_leaf=_is_none)[0] for tree in (primals, tangents)]
    places, places_of_tangents = ([jtu.keystr(path) for path, _ in tree] for tree in trees)
    missing = [place for place in places if place not in places_of_tangents]
    excess = [place for place in places_of_tangents if place not in places]
    if missing:
        detail = f"there is none at `primals{missing[0]}`"
    elif excess:
        detail = f"there is one at `tangents{excess[0]}`, where `primals` has no leaf"
    else:
        detail = "their nodes are of different types, or hold different static values"
    return (
        f"`filter_jvp(primals=..., tangents=...)` must have the same structure, with None for each leaf that has no "
        f"tangent; {detail}. Make the tangents by `jax.tree.map` over `primals`, for example."
    )
