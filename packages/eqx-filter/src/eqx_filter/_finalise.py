"""Rewrite a program so that it holds only JAX's own primitives: `finalise_jaxpr` and its family."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.tree_util as jtu

from ._are_arrays import are_arrays
from ._evaluate_jaxpr import evaluate_jaxpr, in_the_form_of
from ._jax_compat import bind_equation, close_jaxpr, custom_jvp_call_p, is_jaxpr, stop_gradient_p
from ._make_jaxpr import filter_make_jaxpr
from ._partition import combine

primitive_finalisations: dict[Any, Callable[..., Any]] = {}
"""For each primitive that is replaced, a function of its operands and parameters that returns its results."""

# The axes of these are in scope in their bodies only, which can therefore not be traced again on their own.
_OPAQUE = frozenset({"shard_map", "xla_pmap"})


def register_impl_finalisation(prim: Any) -> None:
    """Let `finalise_jaxpr` and its family replace a primitive by what its `impl` does, itself finalised.

    Args:
      prim: A primitive whose `impl` can be traced. It may be defined anew later.
    """
    primitive_finalisations[prim] = functools.partial(_impl_finalisation, prim)


def finalise_jaxpr(jaxpr: Any) -> Any:
    """Return a closed jaxpr without primitives that are none of JAX's own.

    Those made by this package, and any given to `register_impl_finalisation`, are replaced by what they do, also in the
    jaxprs of `lax.cond`, `lax.scan`, `jax.checkpoint` and the like, if not in the bodies of `jax.shard_map`. What only
    matters to transformations is left out: custom JVP rules and `lax.stop_gradient`.

    Args:
      jaxpr: A closed jaxpr, for example one made by `jax.make_jaxpr`.

    Example:
      >>> from eqx_filter.internal import finalise_jaxpr, unvmap_any
      >>> finalise_jaxpr(jax.make_jaxpr(unvmap_any)(jnp.array([True, False])))
      { lambda ; a:bool[2]. let b:bool[] = reduce_or[...] a in (b,) }
    """
    if not _is_concerned(jaxpr):
        return jaxpr
    return jax.make_jaxpr(finalise_jaxpr_as_fn(jaxpr))(*jaxpr.in_avals)


def finalise_jaxpr_as_fn(jaxpr: Any) -> Callable[..., list[Any]]:
    """Return what `finalise_jaxpr` returns as a function from arrays to a list of arrays."""
    return functools.partial(finalise_eval_jaxpr, jaxpr.jaxpr, jaxpr.consts)


def finalise_fn(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the same arguments that does what `fn` does by JAX's own primitives, see `finalise_jaxpr`.

    Args:
      fn: Any callable; its arguments and results may be anything.
    """

    @functools.wraps(fn)
    def finalised(*args: Any, **kwargs: Any) -> Any:
        jaxpr, structs, rest = filter_make_jaxpr(fn)(*args, **kwargs)
        leaves = jtu.tree_leaves((args, kwargs))
        arrays = [leaf for leaf, is_array in zip(leaves, are_arrays(leaves), strict=True) if is_array]
        out = finalise_jaxpr_as_fn(jaxpr)(*arrays)
        return combine(jtu.tree_unflatten(jtu.tree_structure(structs), out), rest)

    return finalised


def finalise_make_jaxpr(fn: Callable[..., Any], *, return_shape: bool = False) -> Callable[..., Any]:
    """Return what `jax.make_jaxpr` does, with jaxprs as those of `finalise_jaxpr`.

    Args:
      fn: A function of arrays.
      return_shape: Whether to return, in a pair with the jaxpr, the structure of the result.
    """

    def make(*args: Any, **kwargs: Any) -> Any:
        jaxpr, structs = jax.make_jaxpr(fn, return_shape=True)(*args, **kwargs)
        jaxpr = finalise_jaxpr(jaxpr)
        return (jaxpr, structs) if return_shape else jaxpr

    return make


def finalise_eval_jaxpr(jaxpr: Any, consts: Sequence[Any], *args: Any) -> list[Any]:
    """Return what `jax.core.eval_jaxpr` does, by JAX's own primitives, see `finalise_jaxpr`.

    Args:
      jaxpr: An open jaxpr.
      consts: Its constants.
      *args: Its arguments.
    """
    return evaluate_jaxpr(jaxpr, consts, args, _finalise_equation)


def _finalise_equation(eqn: Any, args: Sequence[Any]) -> Sequence[Any]:
    rule = primitive_finalisations.get(eqn.primitive)
    if rule is not None:
        out = rule(*args, **eqn.params)
        return out if eqn.primitive.multiple_results else [out]
    if _is_concerned(eqn):
        eqn = eqn.replace(params={name: _finalise_inside(value) for name, value in eqn.params.items()})
    return bind_equation(eqn, args)


def _inside(eqn: Any) -> list[Any]:
    """Return the jaxprs among the parameters of an equation."""
    if eqn.primitive.name in _OPAQUE:
        return []
    values = [item for value in eqn.params.values() for item in (value if isinstance(value, tuple) else (value,))]
    return list(filter(is_jaxpr, values))


def _is_concerned(program: Any) -> bool:
    """Tell whether anything is to be replaced in a jaxpr, or in those inside of an equation."""
    if is_jaxpr(program):
        return any(eqn.primitive in primitive_finalisations or _is_concerned(eqn) for eqn in program.eqns)
    return any(map(_is_concerned, _inside(program)))


def _finalise_inside(value: Any) -> Any:
    """Return a parameter with the jaxprs in it finalised; those that had no constants get none."""
    if isinstance(value, tuple):
        return tuple(map(_finalise_inside, value))
    if not is_jaxpr(value) or not _is_concerned(value):
        return value
    return in_the_form_of(value, finalise_jaxpr(close_jaxpr(value)))


def _impl_finalisation(prim: Any, *args: Any, **params: Any) -> Any:
    jaxpr = jax.make_jaxpr(functools.partial(prim.impl, **params))(*args)
    out = finalise_jaxpr_as_fn(jaxpr)(*args)
    return out if prim.multiple_results else out[0]


def _custom_jvp_finalisation(*args: Any, call_jaxpr: Any, **_: Any) -> list[Any]:
    return finalise_jaxpr_as_fn(call_jaxpr)(*args)


primitive_finalisations[custom_jvp_call_p] = _custom_jvp_finalisation
primitive_finalisations[stop_gradient_p] = lambda x: x
