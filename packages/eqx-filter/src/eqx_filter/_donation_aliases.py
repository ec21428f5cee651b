"""Find out that an array which is to be overwritten is needed elsewhere, before it is lost."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.core

from ._axes import short
from ._jax_compat import hide_from_tracebacks

hide_from_tracebacks(__file__)


class DistinctProgram:
    """A program that takes an array once only if it donates it.

    XLA refuses it too, but counts the leaves instead of naming them, and only where it would make use of the donation.

    Args:
      program: The program to run.
      donate: The option of the user.
      donated: Which of its arrays are donated.
      paths: What to call each array.
    """

    def __init__(self, program: Any, donate: str, donated: Sequence[int], paths: Sequence[str]):
        self.__wrapped__ = program.__wrapped__
        self._program = program
        self._donate = donate
        self._donated = frozenset(donated)
        self._paths = paths

    def __call__(self, *arrays: Any) -> Any:
        __tracebackhide__ = True
        self.check(arrays)
        return self._program(*arrays)

    def lower(self, *arrays: Any) -> Any:
        """As `jax.jit(...).lower`."""
        __tracebackhide__ = True
        return self._program.lower(*arrays)

    def check(self, arrays: Sequence[Any]) -> None:
        """Raise ValueError if a donated array is among the arrays twice."""
        if len(set(map(id, arrays))) < len(arrays):
            self._check_each(arrays)

    def _check_each(self, arrays: Sequence[Any]) -> None:
        first: dict[int, int] = {}
        for i, array in enumerate(arrays):
            j = first.setdefault(id(array), i)
            # What is being traced is not donated, and an array of NumPy is copied.
            if j == i or isinstance(array, jax.core.Tracer) or not isinstance(array, jax.Array):
                continue
            if i in self._donated or j in self._donated:
                raise ValueError(
                    f"`filter_jit(donate={self._donate!r})` must get an array that it overwrites only once; got the "
                    f"same {short(array)} at `{self._paths[j]}` and at `{self._paths[i]}`. Pass `jnp.copy` of it at one "
                    f"of these places. `eqx_core.tree_doctor(model)` finds what a model holds twice."
                )
