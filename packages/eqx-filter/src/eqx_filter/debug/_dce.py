"""See which arrays dead code elimination takes out of a program: `store_dce`, `inspect_dce`."""

import itertools
from collections.abc import Hashable
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from .._are_arrays import are_arrays
from .._jax_compat import (
    define_batching,
    define_derivatives,
    define_lowering,
    hide_from_tracebacks,
    in_program,
    new_primitive,
)

hide_from_tracebacks(__file__)


class _Entry:
    """What one call of `store_dce` was given, and which of its leaves have been compiled."""

    def __init__(self, leaves: list[Any], treedef: Any):
        self.leaves = leaves
        self.treedef = treedef
        self.compiled: set[int] = set()

    def __repr__(self) -> str:
        leaves = [
            _Gone() if isinstance(leaf, jax.ShapeDtypeStruct) and i not in self.compiled else leaf
            for i, leaf in enumerate(self.leaves)
        ]
        return eqx_core.tree_pformat(self.treedef.unflatten(leaves), struct_as_array=True)


class _Gone:
    def __repr__(self) -> str:
        return "<DCE'd>"


# By name, and in order of the calls.
_ENTRIES: dict[Hashable, dict[int, _Entry]] = {}
_NUMBERS = itertools.count()
eqx_core.internal.register_cache(_ENTRIES.clear)

_stored_p = new_primitive("store_dce")


def _stored(x: Any, *, name: Hashable, number: int, leaf: int) -> Any:
    _ENTRIES[name][number].compiled.add(leaf)
    return x


_stored_p.def_impl(lambda x, **_: x)
_stored_p.def_abstract_eval(lambda x, **_: x)
define_lowering(_stored_p, _stored)
define_derivatives(_stored_p, lambda x, t, **params: (_stored_p.bind(*x, **params), *t), lambda ct, _, **params: [ct])
define_batching(_stored_p, lambda _, x, axes, **params: (_stored_p.bind(*x, **params), *axes))


def store_dce(x: Any, name: Hashable = None) -> Any:
    """Return `x`, and remember its arrays, for `inspect_dce` to tell which of them the compiled program computes.

    Args:
      x: Any PyTree.
      name: What to ask `inspect_dce` for.

    Raises:
      RuntimeError: It is called outside of a function that is being compiled.
    """
    if not in_program():
        raise RuntimeError(
            "`store_dce(x)` must be used inside of JIT; got a call outside of any. Call it in the function that is "
            "compiled, and `inspect_dce` after that."
        )
    leaves, treedef = jtu.tree_flatten(x)
    number = next(_NUMBERS)
    kept = []
    for i, (leaf, is_array) in enumerate(zip(leaves, are_arrays(leaves), strict=True)):
        if is_array:
            leaves[i] = _stored_p.bind(leaf, name=name, number=number, leaf=i)
            leaf = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        kept.append(leaf)
    _ENTRIES.setdefault(name, {})[number] = _Entry(kept, treedef)
    return treedef.unflatten(leaves)


def inspect_dce(name: Hashable = None) -> None:
    """Print, for each call of `store_dce` of that name, which arrays are not in the compiled program.

    Args:
      name: As in `store_dce`.

    Raises:
      RuntimeError: It is called inside of a function that is being compiled.

    Example:
      >>> @jax.jit
      ... def fun(x):
      ...     used, unused, text = eqx_filter.debug.store_dce((x, x**2, "text"), name="example")
      ...     return used
      >>> out = fun(1)
      >>> eqx_filter.debug.inspect_dce(name="example")
      Found 1 call to `store_dce`.
      Entry 0:
      (i32[], <DCE'd>, 'text')
    """
    if in_program():
        raise RuntimeError(
            "`inspect_dce()` must be used outside of JIT; got a call inside of one. Call it when the program that "
            "`store_dce` is in has been compiled."
        )
    entries = list(_ENTRIES.get(name, {}).values())
    print(f"Found {len(entries)} call{'' if len(entries) == 1 else 's'} to `store_dce`.")
    for i, entry in enumerate(entries):
        print(f"Entry {i}:\n{entry!r}")
