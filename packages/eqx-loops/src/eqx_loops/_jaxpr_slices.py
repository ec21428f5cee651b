"""Ask which results of a jaxpr depend on which arguments, and compute some of its results alone."""

from collections.abc import Sequence
from typing import Any

from ._jax_compat import bind_equation


def varying_results(closed: Any, varying: Sequence[bool]) -> list[bool]:
    """Return for each result of a closed jaxpr whether it may depend on an argument that varies.

    Whatever has an effect counts as varying: it is not to be done once instead of many times.

    Args:
      closed: The jaxpr.
      varying: For each argument, whether it varies.
    """
    jaxpr = closed.jaxpr
    found = {var for var, varies in zip(jaxpr.invars, varying, strict=True) if varies}
    for eqn in jaxpr.eqns:
        if eqn.effects or any(var in found for var in _variables(eqn.invars)):
            found.update(eqn.outvars)
    return [not _is_literal(var) and var in found for var in jaxpr.outvars]


def some_results(closed: Any, wanted: Sequence[bool], args: Sequence[Any]) -> list[Any]:
    """Return those results of a closed jaxpr that are wanted, without computing what only others need.

    Args:
      closed: The jaxpr.
      wanted: For each result, whether it is wanted.
      args: Its arguments. Those that are not needed may be anything.
    """
    jaxpr = closed.jaxpr
    results = [var for var, is_wanted in zip(jaxpr.outvars, wanted, strict=True) if is_wanted]
    values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *args], strict=True))
    for eqn in _needed(jaxpr, results):
        out = bind_equation(eqn, [_value(values, var) for var in eqn.invars])
        values.update(zip(eqn.outvars, out, strict=True))
    return [_value(values, var) for var in results]


def _needed(jaxpr: Any, results: Sequence[Any]) -> list[Any]:
    """Return the equations that the results need, in order."""
    needed, equations = set(_variables(results)), []
    for eqn in reversed(jaxpr.eqns):
        if any(var in needed for var in eqn.outvars):
            needed.update(_variables(eqn.invars))
            equations.append(eqn)
    return equations[::-1]


def _is_literal(var: Any) -> bool:
    return hasattr(var, "val")


def _variables(atoms: Sequence[Any]) -> list[Any]:
    return [atom for atom in atoms if not _is_literal(atom)]


def _value(values: dict[Any, Any], atom: Any) -> Any:
    return atom.val if _is_literal(atom) else values[atom]
