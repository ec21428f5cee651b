"""The step of a scan as a function from arrays to arrays, with the checks of what it returns: `ScanStep`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core
import eqx_filter

from ._buffers import Buffer


class ScanStep:
    """Calls the step with a whole slice, and takes the arrays out of its result."""

    def __init__(self, f: Callable[[Any, Any], Any], static: Any):
        """Remember a step.

        Args:
          f: The step of `scan`.
          static: What is no array in `xs`.
        """
        self._f, self._static, self._rest = f, static, None

    def __call__(self, carry: Any, arrays: Any) -> tuple[Any, Any]:
        """Return the next carry, and the arrays of the result.

        Args:
          carry: The carry.
          arrays: The arrays of a slice.

        Raises:
          TypeError: The step does not return a pair.
          ValueError: It returns a carry of another structure, shape or dtype than it gets.
        """
        __tracebackhide__ = True
        out = self._f(carry, eqx_filter.combine(arrays, self._static))
        if not (isinstance(out, tuple | list) and len(out) == 2):
            raise TypeError(
                f"`scan(f=...)` must return a pair of the next carry and a result; got `{eqx_core.tree_pformat(out)}`. "
                f"Write `return carry, None` where there is no result."
            )
        after, result = out
        after = jtu.tree_map(lambda x: jnp.asarray(x) if eqx_core.is_array_like(x) else x, after)
        _check_carry(carry, after)
        result, self._rest = eqx_filter.partition(result, eqx_core.is_array_like)
        return after, jtu.tree_map(jnp.asarray, result)

    def join(self, arrays: Any) -> Any:
        """Return a result with these arrays, and what else the step has returned."""
        return eqx_filter.combine(arrays, self._rest)

    def results(self, init: Any, xs: Any, buffers: Callable[[Any], Any] | None) -> Any:
        """Return the types of the arrays of a result.

        Args:
          init: The first carry.
          xs: The arrays of all slices.
          buffers: What of the carry the step is to get as buffers.

        Raises:
          TypeError, ValueError: As on calling it.
        """

        def one(carry: Any, arrays: Any) -> Any:
            __tracebackhide__ = True
            return self(carry if buffers is None else _with_buffers(carry, buffers), arrays)[1]

        slices = jtu.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
        return eqx_filter.filter_eval_shape(one, init, slices)


def strong_arrays(init: Any) -> Any:
    """Return the first carry with an array in the place of each number, and without weak types, which would change.

    Raises:
      TypeError: A leaf is neither.
    """

    def strong(path: jtu.KeyPath, leaf: Any) -> jax.Array:
        if not eqx_core.is_array_like(leaf):
            raise TypeError(
                f"`scan(init=...)` must hold only arrays, and numbers, which become arrays; got "
                f"`{eqx_core.tree_pformat(leaf)}` at `init{jtu.keystr(path)}`. Let `f` close over what is no array."
            )
        array = jnp.asarray(leaf)
        return jax.lax.convert_element_type(array, array.dtype) if jax.typeof(array).weak_type else array

    return jtu.tree_map_with_path(strong, init)


def _check_carry(before: Any, after: Any) -> None:
    __tracebackhide__ = True
    with_paths, treedef = jtu.tree_flatten_with_path(before)
    leaves, treedef_after = jtu.tree_flatten(after)
    if treedef != treedef_after:
        found = f"structure `{eqx_core.tree_pformat(before)}` became `{eqx_core.tree_pformat(after)}`"
    else:
        changes = (
            f"`{eqx_core.tree_pformat(old)}` became `{eqx_core.tree_pformat(new)}` at `carry{jtu.keystr(path)}`"
            for (path, old), new in zip(with_paths, leaves, strict=True)
            if (old.shape, old.dtype) != (getattr(new, "shape", None), getattr(new, "dtype", None))
        )
        found = ", ".join(changes)
    if found:
        raise ValueError(
            f"`scan(f=...)` must return a carry of the structure, the shapes and the dtypes of that which it gets; got: "
            f"{found}. Return a carry like that, converted by `.astype` where need be."
        )


def _with_buffers(carry: Any, buffers: Callable[[Any], Any]) -> Any:
    chosen = jtu.tree_leaves(buffers(carry), is_leaf=_is_buffer)

    def wrapped(leaf: Any) -> Any:
        return Buffer(leaf, jnp.asarray(True)) if any(leaf is one for one in chosen) else leaf

    return jtu.tree_map(wrapped, carry, is_leaf=_is_buffer)


def _is_buffer(node: Any) -> bool:
    return isinstance(node, Buffer)
