"""Take the activations out of a program that has taps in it, and put others in: `harvest`."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._evaluate_jaxpr import evaluate_jaxpr, in_the_form_of
from .._jax_compat import (
    bind_equation,
    close_jaxpr,
    hide_from_tracebacks,
    is_jaxpr,
    scan_operands,
    with_more_operands,
)
from .._runtime_check import nan_like
from ._tap import Structure, Tap, tap_p, with_axes

hide_from_tracebacks(__file__)

Owner = tuple[str, ...]
Arrays = list[Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a tapped part, as it stands in a program.

    Attributes:
      tap: Which part.
      structure: What it returns, without the arrays.
      avals: The arrays: with an axis for each `lax.scan` and `jax.vmap` around the call, the outermost first.
    """

    tap: Tap
    structure: Structure
    avals: tuple[jax.ShapeDtypeStruct, ...]


def calls_in(jaxpr: Any, owner: Owner) -> list[Call]:
    """Return the calls in a jaxpr, those in the bodies of loops and the like included, in order.

    Raises:
      ValueError: One is where its result cannot be taken out.
    """
    return [call for eqn in jaxpr.eqns for call in _calls_of(eqn, owner)]


def harvest(
    jaxpr: Any, owner: Owner, args: Sequence[Any], given: Sequence[Arrays | None]
) -> tuple[Arrays, list[Arrays]]:
    """Run a program, and return with its results what the tapped calls in it have returned.

    Args:
      jaxpr: A closed jaxpr.
      owner: Whose taps to take out. Others stay.
      args: The arguments.
      given: For each of `calls_in`, the arrays that are put in, or None.

    Returns:
      The results, and for each of `calls_in` the arrays as the rest of the program has seen them.
    """
    caught: list[Arrays] = []
    mine = iter(given)

    def equation(eqn: Any, operands: list[Any]) -> Sequence[Any]:
        calls = _calls_of(eqn, owner)
        if not calls:
            return bind_equation(eqn, operands)
        rule = _tapped if eqn.primitive is tap_p else _RULES[eqn.primitive.name]
        results, found = rule(eqn, owner, operands, calls, [next(mine) for _ in calls])
        caught.extend(found)
        return results

    results = evaluate_jaxpr(jaxpr.jaxpr, jaxpr.consts, args, equation)
    return results, caught


def _calls_of(eqn: Any, owner: Owner) -> list[Call]:
    if eqn.primitive is tap_p:
        params = eqn.params
        if params["tap"].owner != owner:
            return []
        arrays = zip(eqn.outvars, params["batches"], strict=True)
        avals = [jax.eval_shape(functools.partial(with_axes, axes=axes), var.aval) for var, axes in arrays]
        return [Call(params["tap"], params["structure"], tuple(avals))]
    inside = [calls_in(jaxpr, owner) for jaxpr in _inside(eqn)]
    found = [call for calls in inside for call in calls]
    if not found:
        return []
    name = eqn.primitive.name
    if name not in _RULES:
        raise ValueError(_refusal(name, found[0].tap.path))
    if name == "cond":
        return inside[0] if _all_the_same(inside) else found
    length = (eqn.params["length"],) if name == "scan" else ()
    return [dataclasses.replace(call, avals=tuple(_stacked(aval, length) for aval in call.avals)) for call in found]


def _inside(eqn: Any) -> list[Any]:
    values = [item for value in eqn.params.values() for item in (value if isinstance(value, tuple) else (value,))]
    return [getattr(value, "jaxpr", value) for value in values if is_jaxpr(value)]


def _all_the_same(inside: list[list[Call]]) -> bool:
    """Tell whether the branches make the same calls, so that one is made whichever is taken."""
    return all(calls == inside[0] for calls in inside)


def _stacked(aval: Any, length: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*length, *aval.shape), aval.dtype)


def _refusal(name: str, path: str) -> str:
    advice = {
        "while": "How many steps a `lax.while_loop` takes is not known, nor is how much there is to return: write "
        "`lax.scan`, or `lax.fori_loop` with bounds that are Python numbers, or pick what is around the loop.",
        "shard_map": "What is there is a part of an array on each device: pick what is around the `jax.shard_map`.",
    }.get(name, "Pick what is around it.")
    return (
        f"`taps(where=...)` must pick parts whose results can be returned; got `{path}`, called in a `{name}`. {advice}"
    )


_Found = tuple[Sequence[Any], list[Arrays]]


def _tapped(eqn: Any, owner: Owner, operands: Arrays, calls: list[Call], given: list[Arrays | None]) -> _Found:
    results = operands
    if given[0] is not None:
        perturbs = eqn.params["tap"].change == "perturb"
        pairs = zip(operands, given[0], strict=True)
        results = [x if new is None else x + new if perturbs else new for x, new in pairs]
    return results, [[with_axes(x, axes) for x, axes in zip(results, eqn.params["batches"], strict=True)]]


def _in_jit(eqn: Any, owner: Owner, operands: Arrays, calls: list[Call], given: list[Arrays | None]) -> _Found:
    jaxpr = _extended(eqn.params["jaxpr"], owner, given)
    more = _flat(given)
    eqn = with_more_operands(eqn, jaxpr, len(more), _count(calls))
    return _parted(bind_equation(eqn, [*operands, *more]), calls)


def _in_checkpoint(eqn: Any, owner: Owner, operands: Arrays, calls: list[Call], given: list[Arrays | None]) -> _Found:
    before = eqn.params["jaxpr"]
    jaxpr = in_the_form_of(before, _extended(close_jaxpr(before), owner, given))
    eqn = eqn.replace(params=eqn.params | {"jaxpr": jaxpr})
    return _parted(bind_equation(eqn, [*operands, *_flat(given)]), calls)


def _in_scan(eqn: Any, owner: Owner, operands: Arrays, calls: list[Call], given: list[Arrays | None]) -> _Found:
    consts, init, xs = scan_operands(eqn, operands)

    def step(carry: Any, xs: Any) -> Any:
        results, found = harvest(eqn.params["jaxpr"], owner, [*consts, *carry, *xs[0]], xs[1])
        return results[: len(init)], (results[len(init) :], found)

    options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    carry, (ys, found) = jax.lax.scan(step, init, (xs, given), **options)
    return [*carry, *ys], found


def _in_cond(eqn: Any, owner: Owner, operands: Arrays, calls: list[Call], given: list[Arrays | None]) -> _Found:
    branches = eqn.params["branches"]
    inside = [calls_in(branch.jaxpr, owner) for branch in branches]
    same, start, new = _all_the_same(inside), 0, []
    for branch, own in zip(branches, inside, strict=True):
        place = slice(0, len(calls)) if same else slice(start, start + len(own))
        start += len(own)
        new.append(_extended(branch, owner, given, calls, place))
    eqn = eqn.replace(params=eqn.params | {"branches": tuple(new)})
    return _parted(bind_equation(eqn, [*operands, *_flat(given)]), calls)


def _in_custom_rule(eqn: Any, owner: Owner, operands: Arrays, calls: list[Call], given: list[Arrays | None]) -> _Found:
    # The rule is for the results; what is taken out has the derivative of how it is computed. With something put in,
    # the function is another one than that of the rule.
    results, found = harvest(close_jaxpr(eqn.params["call_jaxpr"]), owner, operands, given)
    return (bind_equation(eqn, operands) if not _flat(given) else results), found


_RULES: dict[str, Callable[..., _Found]] = {
    "jit": _in_jit,
    "pjit": _in_jit,
    "checkpoint": _in_checkpoint,
    "remat2": _in_checkpoint,
    "scan": _in_scan,
    "cond": _in_cond,
    "custom_jvp_call": _in_custom_rule,
    "custom_vjp_call": _in_custom_rule,
}


def _extended(
    jaxpr: Any,
    owner: Owner,
    given: list[Arrays | None],
    calls: list[Call] | None = None,
    place: slice = slice(None),
) -> Any:
    """Return a closed jaxpr that takes the given arrays too, and returns the caught ones too.

    Args:
      calls: All calls, if those in the jaxpr are only the ones at `place`; the others are then not made.
    """

    def run(*operands: Any) -> list[Any]:
        count = len(jaxpr.in_avals)
        put_in = _regrouped(iter(operands[count:]), given)
        results, found = harvest(jaxpr, owner, operands[:count], put_in[place])
        if calls is not None:
            found = [*map(_not_made, calls[: place.start]), *found, *map(_not_made, calls[place.stop :])]
        return [*results, *(x for arrays in found for x in arrays)]

    return jax.make_jaxpr(run)(*jaxpr.in_avals, *(_stacked(jax.typeof(x), ()) for x in _flat(given)))


def _not_made(call: Call) -> Arrays:
    return [nan_like(jnp.empty(aval.shape, aval.dtype)) for aval in call.avals]


def _flat(given: Sequence[Arrays | None]) -> Arrays:
    return [x for arrays in given if arrays is not None for x in arrays if x is not None]


def _regrouped(flat: Iterator[Any], given: Sequence[Arrays | None]) -> list[Arrays | None]:
    return [None if arrays is None else [None if x is None else next(flat) for x in arrays] for arrays in given]


def _count(calls: list[Call]) -> int:
    return sum(len(call.avals) for call in calls)


def _parted(results: list[Any], calls: list[Call]) -> _Found:
    """Return the results of an extended program, and the caught arrays at their end, call by call."""
    rest = iter(results[len(results) - _count(calls) :])
    return results[: len(results) - _count(calls)], [[next(rest) for _ in call.avals] for call in calls]
