"""Run a program one equation after another, loops step by step, and look at each result: `run_stepwise`."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._evaluate_jaxpr import evaluate_jaxpr
from .._jax_compat import bind_equation, close_jaxpr, scan_operands, scopes_of
from ._backward_equations import Scopes, backward_equations


@dataclasses.dataclass(frozen=True)
class Live:
    """A value that depends on the arguments, other than what a program makes of its own literals.

    Attributes:
      value: The array.
      name: Which leaf of the arguments it is, if it is one.
    """

    value: Any
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class Place:
    """Where in a program something is.

    Attributes:
      scopes: The names around it, and whether each is that of a transformation.
      steps: The loops around it, and the iteration of each.
      backward: Whether it is there for the backward pass alone.
    """

    scopes: Scopes = ()
    steps: tuple[tuple[str, int], ...] = ()
    backward: bool = False


Look = Callable[[Any, list[Any], list[Any], Place], None]
"""Is called with an equation, its operands, its results, and where it is. Both may be `Live`."""


def run_stepwise(jaxpr: Any, args: Sequence[Any], look: Look) -> list[Any]:
    """Return the results of a closed jaxpr, having looked at each result in it that depends on the arguments.

    Args:
      jaxpr: The program.
      args: Its arguments, `Live` or not.
      look: What looks.
    """
    return _runner(jaxpr, look, Place(), [False] * len(jaxpr.jaxpr.outvars))(args)


def value_of(x: Any) -> Any:
    """Return an array, be it `Live` or not."""
    return x.value if isinstance(x, Live) else x


def _runner(jaxpr: Any, look: Look, place: Place, late_results: Sequence[bool]) -> Callable[..., list[Any]]:
    """Return a function that runs a closed jaxpr, given its arguments and the iteration of a loop that it is the body of.

    Args:
      jaxpr: What to run.
      look: What looks.
      place: Where the jaxpr is.
      late_results: Which of its results are there for the backward pass alone.
    """
    late_of = backward_equations(jaxpr.jaxpr, place.scopes, late_results)
    consts = [Live(x, "a constant") for x in jaxpr.consts]

    def run(args: Sequence[Any], *steps: tuple[str, int]) -> list[Any]:
        numbers = itertools.count()

        def equation(eqn: Any, operands: list[Any]) -> Sequence[Any]:
            late = late_of.get(next(numbers), [False] * len(eqn.outvars))
            scopes = (*place.scopes, *scopes_of(eqn))
            here = Place(scopes, (*place.steps, *steps), place.backward or (bool(late) and all(late)))
            enter = _ENTER.get(eqn.primitive.name, _whole)
            return enter(eqn, operands, look, here, late)

        return evaluate_jaxpr(jaxpr.jaxpr, consts, args, equation)

    return run


_VIEWS = {"reshape", "broadcast_in_dim", "transpose", "squeeze", "copy", "copy_p", "slice", "convert_element_type"}


def _whole(eqn: Any, operands: list[Any], look: Look, here: Place, late: list[bool]) -> Sequence[Any]:
    results = bind_equation(eqn, list(map(value_of, operands)))
    if not any(isinstance(x, Live) for x in operands):
        return results
    shown = operands[0].name if eqn.primitive.name in _VIEWS and isinstance(operands[0], Live) else None
    live = [Live(x, shown) for x in results]
    look(eqn, operands, live, here)
    return live


def _in_call(eqn: Any, operands: list[Any], look: Look, here: Place, late: list[bool]) -> Sequence[Any]:
    jaxpr = eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]
    return _runner(close_jaxpr(jaxpr), look, here, late)(operands)


def _in_cond(eqn: Any, operands: list[Any], look: Look, here: Place, late: list[bool]) -> Sequence[Any]:
    branches = eqn.params["branches"]
    index = min(max(int(value_of(operands[0])), 0), len(branches) - 1)
    results = _runner(branches[index], look, here, late)(operands[1:])
    if isinstance(operands[0], Live):
        # What a branch makes of nothing depends on the arguments too, by their having chosen it.
        chosen = [Live(x) for x in results if not isinstance(x, Live)]
        look(eqn, operands, chosen, here)
        each = iter(chosen)
        results = [x if isinstance(x, Live) else next(each) for x in results]
    return results


def _in_scan(eqn: Any, operands: list[Any], look: Look, here: Place, late: list[bool]) -> Sequence[Any]:
    length = eqn.params["length"]
    if length == 0:
        return _whole(eqn, operands, look, here, late)
    consts, carry, xs = scan_operands(eqn, operands)
    # The next step may need what the last one hands on to the backward pass alone.
    late = [i >= len(carry) and is_late for i, is_late in enumerate(late)]
    run = _runner(eqn.params["jaxpr"], look, here, late)
    rows: list[Any] = [None] * length
    for i in reversed(range(length)) if eqn.params["reverse"] else range(length):
        results = run([*consts, *carry, *(_entry(x, i) for x in xs)], ("scan", i))
        carry, rows[i] = results[: len(carry)], results[len(carry) :]
    return [*carry, *map(_stacked, zip(*rows, strict=True), eqn.outvars[len(carry) :])]


def _entry(x: Any, i: int) -> Any:
    entry = jax.lax.index_in_dim(value_of(x), i, keepdims=False)
    if not isinstance(x, Live):
        return entry
    return Live(entry, None if x.name is None else f"{x.name}[{i}]")


def _stacked(xs: tuple[Any, ...], var: Any) -> Any:
    stack = jnp.stack([jnp.asarray(value_of(x), var.aval.dtype) for x in xs])
    return Live(stack) if any(isinstance(x, Live) for x in xs) else stack


def _in_while(eqn: Any, operands: list[Any], look: Look, here: Place, late: list[bool]) -> Sequence[Any]:
    first = eqn.params["cond_nconsts"]
    last = first + eqn.params["body_nconsts"]
    asked, used, carry = operands[:first], operands[first:last], operands[last:]
    go_on = _runner(eqn.params["cond_jaxpr"], look, here, [False])
    run = _runner(eqn.params["body_jaxpr"], look, here, [False] * len(carry))
    i = 0
    while value_of(go_on([*asked, *carry], ("while", i))[0]):
        carry = run([*used, *carry], ("while", i))
        i += 1
    return carry


_CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2", "custom_jvp_call", "custom_vjp_call")
_ENTER: dict[str, Callable[..., Sequence[Any]]] = {
    **dict.fromkeys(_CALLS, _in_call),
    "cond": _in_cond,
    "scan": _in_scan,
    "while": _in_while,
}
