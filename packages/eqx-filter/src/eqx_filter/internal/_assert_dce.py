"""Make sure that a part of a program goes away: `assert_dce`."""

from typing import Any

import jax.tree_util as jtu
import numpy as np

from .._are_arrays import are_arrays
from .._jax_compat import hide_from_tracebacks
from .._on_error import mode_of
from .._runtime_check import Check, staged_check
from .._runtime_error import stack_here

hide_from_tracebacks(__file__)


def assert_dce(x: Any, msg: str, *, on_error: str = "default") -> Any:
    """Return `x`, in a compiled function such that it is an error if the program uses it after all.

    Outside of compiled functions it does nothing.

    Args:
      x: Any PyTree.
      msg: The text of the error.
      on_error: As in `error_if`.

    Raises:
      EquinoxRuntimeError: When the program runs: it computes `x`.

    Example:
      >>> from eqx_filter.internal import assert_dce
      >>> print(jax.jit(lambda x: (assert_dce(x**2, "not needed"), x)[1])(3.0))
      3.0
    """
    mode = mode_of(on_error)
    leaves, treedef = jtu.tree_flatten(x)
    where = [i for i, is_array in enumerate(are_arrays(leaves)) if is_array]
    if mode == "off" or not where:
        return x
    check = Check((msg,), lambda _: {}, stack_here(), poison=mode == "nan", when_compiled=True)
    checked = staged_check(check, [np.True_, np.int32(0)], [leaves[i] for i in where])
    for i, array in zip(where, checked, strict=True):
        leaves[i] = array
    return treedef.unflatten(leaves)
