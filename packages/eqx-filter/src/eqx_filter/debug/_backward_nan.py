"""Find where in a backward pass NaN comes up: `backward_nan`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.experimental import io_callback

import eqx_core

from .._custom_vjp import filter_custom_vjp
from .._error_if import error_if
from .._jax_compat import hide_from_tracebacks
from .._partition import combine, partition

hide_from_tracebacks(__file__)


def backward_nan(x: Any, name: str | None = None, terminate: bool = True) -> Any:
    """Return `x`, and print it together with its cotangents when these are computed.

    Args:
      x: Any PyTree.
      name: What to print above.
      terminate: Whether it is an error that a cotangent has a NaN in it.

    Raises:
      EquinoxRuntimeError: On the backward pass: a cotangent has a NaN in it, and `terminate` is true.

    Example:
      >>> grad = jax.grad(lambda x: eqx_filter.debug.backward_nan(x, name="x") ** 2)(jnp.array(3.0))
      x:
         primals=Array(3., dtype=float32)
      cotangents=Array(6., dtype=float32)
    """
    __tracebackhide__ = True
    return _watched(x, name, terminate)


debug_backward_nan = backward_nan
"""What it is called among the names of `internal`."""


@filter_custom_vjp
def _watched(x: Any, name: str | None, terminate: bool) -> Any:
    return x


def _forward(perturbed: Any, x: Any, name: str | None, terminate: bool) -> tuple[Any, None]:
    return x, None


def _backward(residuals: None, cotangents: Any, perturbed: Any, x: Any, name: str | None, terminate: bool) -> Any:
    arrays, rest = partition((x, cotangents), eqx_core.is_array)
    show = functools.partial(_show, name, rest)
    shown = io_callback(show, jax.ShapeDtypeStruct((), np.bool_), arrays, ordered=True)
    if terminate and jtu.tree_leaves(cotangents):
        has_nan = [jnp.any(jnp.isnan(leaf)) for leaf in jtu.tree_leaves(cotangents)]
        # By the first of these the error comes after what is printed.
        cotangents = error_if(cotangents, shown & functools.reduce(jnp.logical_or, has_nan), "Encountered NaN")
    return cotangents


_watched.def_fwd(_forward)
_watched.def_bwd(_backward)


def _show(name: str | None, rest: Any, arrays: Any) -> np.ndarray:
    primals, cotangents = combine(jtu.tree_map(lambda x: jnp.asarray(x, x.dtype), arrays), rest)
    if name is not None:
        print(f"{name}:")
    print(f"   primals={eqx_core.tree_pformat(primals, short_arrays=False)}")
    print(f"cotangents={eqx_core.tree_pformat(cotangents, short_arrays=False)}")
    return np.asarray(True)
