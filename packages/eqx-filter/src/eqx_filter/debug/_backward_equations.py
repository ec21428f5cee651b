"""Tell which equations of a program are there for its gradient alone: `backward_equations`."""

from collections.abc import Sequence
from typing import Any

from .._evaluate_jaxpr import is_literal
from .._jax_compat import scopes_of

Scopes = tuple[tuple[str, bool], ...]


def backward_equations(jaxpr: Any, scopes: Scopes, backward_results: Sequence[bool]) -> dict[int, list[bool]]:
    """Return the equations of an open jaxpr with results that are there for the backward pass alone.

    That is what `jax.grad` has transposed, and what it has had computed beforehand for that: the factors, such as
    `0.5 / sqrt(x)`, which stand among the equations of the function itself.

    Args:
      jaxpr: An open jaxpr.
      scopes: The names around it.
      backward_results: For each of its results, whether it is for the backward pass alone.

    Returns:
      For the number of each equation, which of its results are.
    """
    forward = {
        atom for atom, late in zip(jaxpr.outvars, backward_results, strict=True) if not late and not is_literal(atom)
    }
    backward = {
        atom for atom, late in zip(jaxpr.outvars, backward_results, strict=True) if late and not is_literal(atom)
    }
    found: dict[int, list[bool]] = {}
    for i, eqn in reversed(list(enumerate(jaxpr.eqns))):
        around = (*scopes, *scopes_of(eqn))
        transposed = ("transpose", True) in around
        late = [transposed or (var in backward and var not in forward) for var in eqn.outvars]
        if ("jvp", True) not in around:
            late = [False] * len(late)
        if any(late):
            found[i] = late
        used = (atom for atom in eqn.invars if not is_literal(atom))
        (backward if all(late) and late else forward).update(used)
    return found
