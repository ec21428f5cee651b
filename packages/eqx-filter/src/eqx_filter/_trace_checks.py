"""Let sibling packages look at what `filter_jit` traces: `check_each_trace`."""

from collections.abc import Callable
from typing import Any

_CHECKS: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = []


def check_each_trace(check: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Let `filter_jit` trace `check(fun)` in place of each function `fun`, from now on.

    Args:
      check: Returns a function that does what its argument does, and may raise.
    """
    _CHECKS.append(check)


def checked(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function to trace in place of `fun`: itself, if nothing checks."""
    for check in _CHECKS:
        fun = check(fun)
    return fun
