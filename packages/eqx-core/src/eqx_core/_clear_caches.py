"""Forget what was compiled or computed: one registry for the caches of every package."""

from collections.abc import Callable

_CLEAR: list[Callable[[], object]] = []


def clear_caches() -> None:
    """Clear every cache that eqx holds: compiled functions, evaluated shapes, tables.

    Call it before `jax.clear_caches()`; later calls fill the caches again.

    Example:
      >>> clear_caches()
    """
    for clear in _CLEAR:
        clear()


def register_cache(clear: Callable[[], object]) -> None:
    """Let `clear_caches` also call `clear`, a function of no arguments."""
    _CLEAR.append(clear)
