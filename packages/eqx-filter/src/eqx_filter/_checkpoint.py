"""Compute a function anew in the backward pass instead of storing its intermediates: `filter_checkpoint`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core
from eqx_core.internal import Static, typed_key

from ._jax_compat import hide_from_tracebacks
from ._partition import combine, partition
from ._transform import UNSET, Transformed

hide_from_tracebacks(__file__)


class Checkpoint(Transformed):
    """What `filter_checkpoint` returns."""

    fun: Callable[..., Any]
    prevent_cse: bool = eqx_core.field(static=True)
    policy: Callable[..., bool] | None

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        arrays, static = partition((self.fun, args, kwargs), eqx_core.is_array)
        traced, rest = _checkpointed(self.prevent_cse, self.policy)(_Call(static), arrays)
        return combine(traced, rest.value)


def filter_checkpoint(
    fun: Callable[..., Any] = UNSET, *, prevent_cse: bool = True, policy: Callable[..., bool] | None = None
) -> Any:
    """Return `fun` such that reverse mode computes its intermediates anew, which saves memory and costs time.

    Args:
      fun: A function. Arrays in it and in its arguments are traced; all else is static, and may be anything, as may the
        output. Left out, the result is a decorator.
      prevent_cse: Whether to keep the compiler from undoing the saving. False is faster, and safe inside of `jax.lax.scan`.
      policy: What may be stored nevertheless; one of `jax.checkpoint_policies`.

    Returns:
      A function of the same arguments. As the method of a class it takes `self` as its first.

    Example:
      >>> block = eqx_filter.filter_checkpoint(lambda x, how: jnp.sin(x) if how == "sin" else x)
      >>> print(jax.grad(block)(0.0, "sin"))
      1.0

    Source: Griewank and Walther (2000), "Algorithm 799: revolve"; see `jax.checkpoint`.
    """
    if fun is UNSET:
        return functools.partial(filter_checkpoint, prevent_cse=prevent_cse, policy=policy)
    return Checkpoint(fun, prevent_cse, policy)


class _Call:
    """All of a call but its arrays; equal to another that would be traced to the same program."""

    def __init__(self, static: Any):
        self.static = static
        # What has no hash may change in place, so such a call is like no other.
        self.key = typed_key(static) if all(map(_is_hashable, jtu.tree_leaves(static))) else object()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Call) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _is_hashable(leaf: Any) -> bool:
    try:
        hash(leaf)
    except TypeError:
        return False
    return True


@functools.lru_cache
def _checkpointed(prevent_cse: bool, policy: Callable[..., bool] | None) -> Callable[..., Any]:
    # One function for all calls of one kind, with the rest as a static argument, so that blocks which differ only in
    # their arrays are traced once.
    return jax.checkpoint(_run, prevent_cse=prevent_cse, policy=policy, static_argnums=(0,))


def _run(call: _Call, arrays: Any) -> tuple[Any, Static]:
    __tracebackhide__ = True
    fun, args, kwargs = combine(arrays, call.static)
    traced, rest = partition(fun(*args, **kwargs), eqx_core.is_array)
    return traced, Static(rest)
