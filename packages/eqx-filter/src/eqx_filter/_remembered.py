"""Run a loop or a branch by a program that is compiled once: what keeps control flow quick outside of `filter_jit`."""

import types
from collections.abc import Callable
from typing import Any

import jax.tree_util as jtu

from ._jit import Jitted

_INLINE = (("inline", True),)


def run_remembered(fun: Callable[..., Any], *args: Any) -> Any:
    """Return `fun(*args)`, traced and compiled once for each kind of `fun` and arguments.

    JAX would do so for a function that it has seen before, but ours would be another one in each call.
    """
    __tracebackhide__ = True
    # Methods of one object are equal, whatever has been written to the object in between.
    if any(type(leaf) is types.MethodType for leaf in jtu.tree_leaves(fun)):
        return fun(*args)
    return Jitted(fun, "none", _INLINE)(*args)
