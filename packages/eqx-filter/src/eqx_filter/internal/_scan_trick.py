"""Compile a function once that is used several times in a row: `scan_trick`."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp

from ._nonbatchable import nonbatchable

_Carry = TypeVar("_Carry")


def scan_trick(
    fn: Callable[[_Carry], _Carry], intermediates: Sequence[Callable[[_Carry], _Carry]], init: _Carry
) -> _Carry:
    """Return `fn(init)`, with `intermediates[0]` and `fn` again applied to it, and so on for each of them.

    It is one scan, so that `fn` is traced and compiled once, though what happens between two of its calls differs.

    Args:
      fn: A function from a PyTree of arrays to one of the same structure, shapes and dtypes.
      intermediates: Functions likewise.
      init: What to start from.

    Returns:
      For one intermediate function `g`, `fn(g(fn(init)))`.

    Example:
      >>> from eqx_filter.internal import scan_trick
      >>> print(scan_trick(lambda x: x + 1, [lambda x: 2 * x, lambda x: 10 * x], jnp.array(0)))
      31
    """
    branches = [*intermediates, lambda carry: carry]

    def body(carry: _Carry, step: jax.Array) -> tuple[_Carry, None]:
        # Under `vmap` a batched step would run every branch.
        return jax.lax.switch(nonbatchable(step), branches, fn(carry)), None

    return jax.lax.scan(body, init, jnp.arange(len(branches)))[0]
