"""Repeat a function for a range of indices, with reverse mode whatever the bounds: `fori_loop`."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

import eqx_core

from ._scan import scan
from ._while_loop import while_loop


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    max_steps: int | None = None,
    buffers: Callable[[Any], Any] | None = None,
    kind: Literal["lax", "bounded", "checkpointed", "segmented"],
    checkpoints: int | None = None,
    base: int = 16,
    levels: int = 2,
) -> Any:
    """Return what is left of `init_val` after `val = body_fun(i, val)` for each `i` from `lower` to below `upper`.

    It is `jax.lax.fori_loop`, but can be differentiated in reverse mode also if the bounds are known only when it runs.

    Args:
      lower: The first index: an int, or an integer array of shape `[]`.
      upper: The index to stop before, likewise.
      body_fun: A function from the index, `int[]`, and the carry to the next carry, of the same structure, shapes and
        dtypes.
      init_val: The first carry: any PyTree of arrays and numbers. Numbers become arrays.
      max_steps: The most steps to take, at least 0: the loop ends there even if `upper` has not been reached. By default
        as many as there are, if both bounds are Python ints; if not, kinds "bounded" and "segmented" need it.
      buffers: A function from the carry to an array of it, or a PyTree of them, to be changed in place, as for
        `while_loop`.
      kind: As for `while_loop`. If both bounds are Python ints, "lax" is a `jax.lax.scan`, with both modes.
      checkpoints: As for `while_loop`.
      base: As for `while_loop`.
      levels: As for `while_loop`.

    Returns:
      The last carry.

    Raises:
      TypeError: A bound is no integer, or a leaf of `init_val` no array or number.
      ValueError: As for `while_loop`.

    Example:
      >>> def power(x, n):
      ...     return fori_loop(0, n, lambda i, y: x * y, 1.0, max_steps=10, kind="segmented")
      >>> print(jax.jit(jax.grad(power))(2.0, 3))
      12.0
    """
    __tracebackhide__ = True
    if type(lower) is int and type(upper) is int:
        steps = max(upper - lower, 0)
        max_steps = steps if max_steps is None else min(max_steps, steps)
        if kind == "lax" and type(max_steps) is int and max_steps >= 0:
            indices = lower + jnp.arange(max_steps)
            return scan(lambda val, i: (body_fun(i, val), None), init_val, indices, kind="lax")[0]
    first, last = _index("lower", lower), _index("upper", upper)
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.promote_types(first.dtype, last.dtype)
    _, val = while_loop(
        lambda carry: carry[0] < last.astype(dtype),
        lambda carry: (carry[0] + 1, body_fun(*carry)),
        (first.astype(dtype), init_val),
        max_steps=max_steps,
        buffers=None if buffers is None else lambda carry: buffers(carry[1]),
        kind=kind,
        checkpoints=checkpoints,
        base=base,
        levels=levels,
    )
    return val


def _index(name: str, bound: Any) -> jax.Array:
    array = jnp.asarray(bound) if eqx_core.is_array_like(bound) else None
    if array is None or array.shape != () or not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"`fori_loop({name}=...)` must be an int, or an integer array of shape `()`; got "
            f"`{eqx_core.tree_pformat(bound)}`. Convert it by `int`, or by `.astype(int)`."
        )
    return array
