"""The parts of JAX that are private or moving."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from jax.experimental.xla_metadata import set_xla_metadata
from jax.interpreters import partial_eval


def anew() -> Any:
    """Return a context in which JAX traces every function anew, also those that it has traced before outside of it."""
    # Metadata are part of what JAX knows its traces by, and have no other effect on them.
    return set_xla_metadata(eqx_nn="check_state")


def names_in(jaxpr: Any, used_outputs: Sequence[bool] | None = None) -> Counter[str]:
    """Return the names that `jax.ad_checkpoint.checkpoint_name` gives in a program, and how often.

    Args:
      jaxpr: An open one.
      used_outputs: Which of the outputs to look at; by default the names of arrays that lead to no output count too.
    """
    if used_outputs is not None:
        jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, list(used_outputs))
    return Counter(eqn.params["name"] for eqn in _equations(jaxpr) if eqn.primitive.name == "name")


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yield the equations of a program, and those of the programs in them."""
    for eqn in jaxpr.eqns:
        yield eqn
        if eqn.params.get("differentiated", False):
            continue  # What `jax.checkpoint` computes once more, for the derivative only.
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)
