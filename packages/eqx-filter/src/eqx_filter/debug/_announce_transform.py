"""See which transformations a piece of code goes through: `announce_transform`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.tree_util as jtu

from .._are_arrays import are_arrays
from .._jax_compat import (
    define_batching,
    define_derivatives,
    define_lowering,
    hide_from_tracebacks,
    is_undefined,
    is_zero,
    new_primitive,
)

hide_from_tracebacks(__file__)

announce_jaxpr_p = new_primitive("announce_jaxpr")
"""The identity of some arrays, with the transformations so far as the parameter `stack`."""
announce_jaxpr_p.multiple_results = True


def announce_transform(
    x: Any, name: str | None = None, intermediates: bool = False, announce: Callable[[str], Any] = print
) -> Any:
    """Return `x`, and announce what JAX does to it, when it does it.

    What is announced are the transformations it has gone through, joined by colons: `vmap`; `jvp_p` and `jvp_t` for the
    primal and the tangent of a derivative; `transpose`; and at the end `impl` if it is computed at once, `abstract` if
    only its type is, and `mlir` if it is compiled.

    Args:
      x: Any PyTree; what has no array in it is never announced.
      name: What to put before each announcement, in brackets.
      intermediates: Whether to announce transformations also as they happen, with `jvp` for that of a derivative.
      announce: What to call with each announcement.

    Example:
      >>> out = jax.vmap(lambda x: eqx_filter.debug.announce_transform(x, name="x") + 1)(jnp.ones(2))
      (x) vmap:impl
    """
    leaves, treedef = jtu.tree_flatten(x)
    where = [i for i, is_array in enumerate(are_arrays(leaves)) if is_array]
    if not where:
        return x
    arrays = announce_jaxpr_p.bind(
        *(leaves[i] for i in where), stack=(), name=name, intermediates=intermediates, announce=announce
    )
    for i, array in zip(where, arrays, strict=True):
        leaves[i] = array
    return treedef.unflatten(leaves)


def _announce(step: str, *, stack: tuple[str, ...], name: str | None, announce: Any, **_: Any) -> None:
    text = ":".join((*stack, step))
    announce(text if name is None else f"({name}) {text}")


def _announce_intermediate(step: str, params: dict[str, Any]) -> None:
    if params["intermediates"]:
        _announce(step, **params)


def _pushed(step: str, params: dict[str, Any]) -> dict[str, Any]:
    return params | {"stack": (*params["stack"], step)}


def _at_the_end(step: str) -> Callable[..., list[Any]]:
    def rule(*arrays: Any, **params: Any) -> list[Any]:
        _announce(step, **params)
        return list(arrays)

    return rule


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
    _announce_intermediate("jvp", params)
    out = announce_jaxpr_p.bind(*primals, **_pushed("jvp_p", params))
    moving = [tangent for tangent in tangents if not is_zero(tangent)]
    moved = iter(announce_jaxpr_p.bind(*moving, **_pushed("jvp_t", params)) if moving else [])
    return out, [tangent if is_zero(tangent) else next(moved) for tangent in tangents]


def _transpose(cotangents: Sequence[Any], *arrays: Any, **params: Any) -> Any:
    _announce_intermediate("transpose", params)
    wanted = [is_undefined(x) and not is_zero(ct) for ct, x in zip(cotangents, arrays, strict=True)]
    moving = [ct for ct, is_wanted in zip(cotangents, wanted, strict=True) if is_wanted]
    moved = iter(announce_jaxpr_p.bind(*moving, **_pushed("transpose", params)) if moving else [])
    return [
        next(moved) if is_wanted else ct if is_undefined(x) else None
        for ct, x, is_wanted in zip(cotangents, arrays, wanted, strict=True)
    ]


def _batch(_: Any, arrays: Sequence[Any], axes: Sequence[Any], **params: Any) -> Any:
    if any(axis is not None for axis in axes):
        _announce_intermediate("vmap", params)
        params = _pushed("vmap", params)
    return announce_jaxpr_p.bind(*arrays, **params), list(axes)


announce_jaxpr_p.def_impl(_at_the_end("impl"))
announce_jaxpr_p.def_abstract_eval(_at_the_end("abstract"))
define_lowering(announce_jaxpr_p, _at_the_end("mlir"))
define_derivatives(announce_jaxpr_p, _jvp, _transpose)
define_batching(announce_jaxpr_p, _batch)
