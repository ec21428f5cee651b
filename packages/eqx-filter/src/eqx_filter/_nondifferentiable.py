"""Refuse differentiation of what has no derivative: `nondifferentiable`, `nondifferentiable_backward`."""

import functools
from typing import Any

import jax
import jax.tree_util as jtu
from jax.core import Tracer

from ._error_if import error_if
from ._finalise import register_impl_finalisation
from ._jax_compat import hide_from_tracebacks, linear_identity
from ._partition import combine, partition

hide_from_tracebacks(__file__)


def _is_traced(leaf: Any) -> bool:
    # Nothing else can have a tangent.
    return isinstance(leaf, Tracer)


def nondifferentiable(x: Any, *, name: str | None = None, msg: str | None = None) -> Any:
    """Return `x`; any tangent that reaches it, in forward or reverse mode, is an error when it is traced.

    Args:
      x: Any PyTree.
      name: What to name in the error; by default "This operation".
      msg: The whole text of the error, instead.

    Raises:
      RuntimeError: It is differentiated, whether the result is used or not.

    Example:
      >>> try:
      ...     jax.grad(lambda x: eqx_filter.internal.nondifferentiable(x, name="My solver"))(1.0)
      ... except RuntimeError as error:
      ...     print(error)
      Unexpected tangent. My solver cannot be autodifferentiated.
    """
    if msg is None:
        msg = f"Unexpected tangent. {name or 'This operation'} cannot be autodifferentiated."
    arrays, rest = partition(x, _is_traced)
    return combine(_without_tangents(msg, arrays), rest)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _without_tangents(msg: str, arrays: Any) -> Any:
    return arrays


@_without_tangents.defjvp
def _refuse(msg: str, primals: Any, tangents: Any) -> Any:
    raise RuntimeError(msg)


def nondifferentiable_backward(x: Any, name: str | None = None, msg: str | None = None, symbolic: bool = True) -> Any:
    """Return `x`, which may be differentiated in forward mode; a cotangent that reaches it is an error.

    Args:
      x: Any PyTree.
      name: What to name in the error; by default "This operation".
      msg: The whole text of the error, instead.
      symbolic: Whether any cotangent that is computed is an error, raised when it is traced. Otherwise only one that is
        not zero is, and it is one of `error_if`, raised when the program runs.

    Raises:
      RuntimeError: It is differentiated in reverse mode, and the result is used.

    Example:
      >>> try:
      ...     jax.grad(lambda x: eqx_filter.internal.nondifferentiable_backward(x, name="My loop"))(1.0)
      ... except RuntimeError as error:
      ...     print(error)
      Unexpected cotangent. My loop cannot be reverse-mode autodifferentiated.
    """
    if msg is None:
        msg = f"Unexpected cotangent. {name or 'This operation'} cannot be reverse-mode autodifferentiated."
    arrays, rest = partition(x, _is_traced)
    bind = functools.partial(nondifferentiable_backward_p.bind, msg=msg, symbolic=symbolic)
    return combine(jtu.tree_map(bind, arrays), rest)


def _pull_back(cotangent: Any, *, msg: str, symbolic: bool) -> Any:
    if symbolic:
        raise RuntimeError(msg)

    return error_if(cotangent, cotangent != 0, msg)


nondifferentiable_backward_p = linear_identity("nondifferentiable_backward", _pull_back)
register_impl_finalisation(nondifferentiable_backward_p)
