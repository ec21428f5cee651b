"""Run a jaxpr one equation after another, each as one likes: `evaluate_jaxpr`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ._jax_compat import eval_jaxpr

Equation = Callable[[Any, list[Any]], Sequence[Any]]
"""A function from an equation and its operands to its results."""


def evaluate_jaxpr(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], equation: Equation) -> list[Any]:
    """Return the results of a jaxpr, given what an equation shall do.

    What no later equation needs is let go.

    Args:
      jaxpr: An open jaxpr.
      consts: Its constants.
      args: Its arguments. They, and the results of `equation`, may be anything; literals are given as they are.
      equation: Returns the results of an equation. `bind_equation` does what JAX would.
    """
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    last_use: dict[Any, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        last_use.update((atom, i) for atom in eqn.invars if not is_literal(atom))
    last_use.update((atom, len(jaxpr.eqns)) for atom in jaxpr.outvars if not is_literal(atom))

    def read(atom: Any) -> Any:
        return atom.val if is_literal(atom) else values[atom]

    for i, eqn in enumerate(jaxpr.eqns):
        results = equation(eqn, list(map(read, eqn.invars)))
        for atom in eqn.invars:
            if not is_literal(atom) and last_use[atom] == i:
                values.pop(atom, None)
        values.update((var, x) for var, x in zip(eqn.outvars, results, strict=True) if var in last_use)
    return list(map(read, jaxpr.outvars))


def is_literal(atom: Any) -> bool:
    """Tell whether an operand in a jaxpr is a number that stands in it."""
    return hasattr(atom, "val")


def in_the_form_of(jaxpr: Any, closed: Any) -> Any:
    """Return a closed jaxpr as `jaxpr` is: closed or open, and without constants if that has none."""
    if closed.consts and not getattr(jaxpr, "consts", ()):
        run = jax.jit(lambda *args: eval_jaxpr(closed.jaxpr, closed.consts, *args))
        closed = jax.make_jaxpr(run)(*closed.in_avals)
    return closed if hasattr(jaxpr, "consts") else closed.jaxpr
