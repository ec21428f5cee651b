"""Get arrays like those that a function would return, without running it: `eval_empty`, `eval_zero`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._eval_shape import filter_eval_shape


def eval_empty(fn: Callable[..., Any], *inputs: Any) -> Any:
    """Return what `fn(*inputs)` would, with arrays of unspecified values in the place of arrays.

    Example:
      >>> from eqx_filter.internal import eval_empty
      >>> eval_empty(jnp.outer, jnp.ones(2), jnp.ones(3)).shape
      (2, 3)
    """
    return _fill(jnp.empty, fn, inputs)


def eval_zero(fn: Callable[..., Any], *inputs: Any) -> Any:
    """Return what `fn(*inputs)` would, with arrays of zeros in the place of arrays.

    Example:
      >>> from eqx_filter.internal import eval_zero
      >>> eval_zero(lambda x: (x + 1, "text"), jnp.ones(2))
      (Array([0., 0.], dtype=float32), 'text')
    """
    return _fill(jnp.zeros, fn, inputs)


def _fill(make: Callable[..., Any], fn: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    def fill(leaf: Any) -> Any:
        return make(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf

    return jtu.tree_map(fill, filter_eval_shape(fn, *inputs))
