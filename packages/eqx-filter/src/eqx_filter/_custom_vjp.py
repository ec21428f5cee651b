"""Give a function of models its own reverse-mode derivative: `filter_custom_vjp`."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.custom_derivatives import SymbolicZero, zero_from_primal

import eqx_core
from eqx_core.internal import Static

from ._custom_jvp import name_of
from ._jax_compat import flatten_with_none, hide_from_tracebacks
from ._nondifferentiable import nondifferentiable
from ._partition import combine, partition

hide_from_tracebacks(__file__)


class filter_custom_vjp:
    """Wrap a function so that reverse mode uses rules of its own, given by `def_fwd` and `def_bwd`.

    It is called as `fn(vjp_arg, *args, **kwargs)`, and only `vjp_arg` can be differentiated. Collect in it, as a tuple,
    all that should be. Arguments, outputs and residuals may be any objects.

    Args:
      fn: The function.

    Raises:
      RuntimeError: On calling it: there are no rules yet. On differentiating it: with respect to another argument, or
        the rule returns another structure than it should.
      TypeError: On differentiating it in forward mode.

    Example:
      >>> @eqx_filter.filter_custom_vjp
      ... def square(x, how):
      ...     return x**2
      >>> @square.def_fwd
      ... def square_fwd(perturbed, x, how):
      ...     return x**2, 2 * x
      >>> @square.def_bwd
      ... def square_bwd(residuals, grad_out, perturbed, x, how):
      ...     return residuals * grad_out * (10 if how == "wrong" else 1)
      >>> print(jax.grad(lambda x: square(x, "wrong"))(3.0))
      60.0
    """

    def __init__(self, fn: Callable[..., Any]):
        self.fn = fn
        self.fwd: Callable[..., Any] | None = None
        self.bwd: Callable[..., Any] | None = None
        self.with_zeros = False
        functools.update_wrapper(self, fn, updated=())

    def def_fwd(self, rule: Callable[..., Any]) -> None:
        """Set the rule of the forward pass.

        Args:
          rule: A function called as `rule(perturbed, vjp_arg, *args, **kwargs)`. `perturbed` has the structure of
            `vjp_arg`, with True for each array that is being differentiated and False for all else. It returns a pair:
            what the function returns, and residuals.
        """
        self.fwd = rule

    def def_bwd(self, rule: Callable[..., Any]) -> None:
        """Set the rule of the backward pass.

        Args:
          rule: A function called as `rule(residuals, grad_out, perturbed, vjp_arg, *args, **kwargs)`. `grad_out` has
            the structure of the output, with None for zeros and for whatever is not a floating-point or complex array.
            It returns the gradient: the structure of `vjp_arg`, with None for zeros and for the others.
        """
        self.bwd = rule
        self.with_zeros = False

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set rules of the old kind, without `perturbed` and with zeros in `grad_out`. Use `def_fwd` and `def_bwd`."""
        warnings.warn(
            "`filter_custom_vjp.defvjp` is deprecated in favour of `def_fwd` and `def_bwd`, whose rules also get "
            "`perturbed`, and None rather than zeros in `grad_out`. Set the two rules one by one, with the additional "
            "argument.",
            stacklevel=2,
        )

        self.fwd = lambda perturbed, *args, **kwargs: fwd(*args, **kwargs)
        self.bwd = lambda residuals, grad_out, perturbed, *args, **kwargs: bwd(residuals, grad_out, *args, **kwargs)
        self.with_zeros = True

    def __call__(self, vjp_arg: Any, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if self.fwd is None or self.bwd is None:
            raise RuntimeError(
                f"`def_fwd` or `def_bwd` not yet called for `filter_custom_vjp(fn={name_of(self.fn)})`. Set both rules "
                f"before it is called."
            )
        moving, rest = partition(vjp_arg, eqx_core.is_inexact_array)
        fn = nondifferentiable(self.fn, name="The function that was given to `filter_custom_vjp`")
        args, kwargs = nondifferentiable((args, kwargs), name="`*args` and `**kwargs` to `filter_custom_vjp`")
        arrays, static = partition((fn, rest, args, kwargs), eqx_core.is_array)
        call = jax.custom_vjp(functools.partial(_call, static))
        fwd = functools.partial(_fwd, self.fwd, static)
        bwd = functools.partial(_bwd, self.bwd, static, self.with_zeros)
        call.defvjp(fwd, bwd, symbolic_zeros=True)
        out, rest = call(moving, arrays)
        return combine(out, rest.value)


def _call(static: Any, moving: Any, arrays: Any) -> Any:
    __tracebackhide__ = True
    fn, vjp_arg, args, kwargs = _arguments(static, moving, arrays)
    return _split(fn(vjp_arg, *args, **kwargs))


def _fwd(rule: Callable[..., Any], static: Any, moving: Any, arrays: Any) -> Any:
    __tracebackhide__ = True
    perturbed = jtu.tree_map(lambda primal: primal.perturbed, moving)
    moving, arrays = jtu.tree_map(lambda primal: primal.value, (moving, arrays))
    _, vjp_arg, args, kwargs = _arguments(static, moving, arrays)
    perturbed = combine(perturbed, jtu.tree_map(lambda _: False, vjp_arg))
    out, residuals = rule(perturbed, vjp_arg, *args, **kwargs)
    return _split(out), (_split(residuals), moving, arrays, Static(perturbed))


def _bwd(rule: Callable[..., Any], static: Any, with_zeros: bool, saved: Any, cotangent: Any) -> Any:
    __tracebackhide__ = True
    (residuals, rest), moving, arrays, perturbed = saved
    _, vjp_arg, args, kwargs = _arguments(static, moving, arrays)
    residuals = _as_arrays(residuals)
    grad_out = jtu.tree_map(functools.partial(_cotangent, with_zeros), cotangent[0])
    grad = rule(combine(residuals, rest.value), grad_out, perturbed.value, vjp_arg, *args, **kwargs)
    grads, treedef = flatten_with_none(grad)
    primals, treedef_of_primals = flatten_with_none(moving)
    if treedef != treedef_of_primals:
        raise RuntimeError(
            f"`filter_custom_vjp.def_bwd(rule=...)` must return gradients of the same structure as "
            f"`eqx.filter(vjp_arg, eqx.is_inexact_array)`, with None for one that is zero; got "
            f"`{eqx_core.tree_pformat(grad)}` for `{eqx_core.tree_pformat(moving)}`. Return a tree that is built like "
            f"`vjp_arg`, the first argument."
        )
    # The zeros of JAX rather than None, as JAX before 0.9 wants the same structure each time.
    wanted = [_gradient(primal, grad) for primal, grad in zip(primals, grads, strict=True)]
    return treedef.unflatten(wanted), None


def _gradient(primal: Any, grad: Any) -> Any:
    if primal is None:
        return None
    return zero_from_primal(primal, symbolic_zeros=True) if grad is None else grad


def _arguments(static: Any, moving: Any, arrays: Any) -> tuple[Any, Any, tuple[Any, ...], dict[str, Any]]:
    """Return the function, its first argument, and the others."""
    moving, arrays = _as_arrays((moving, arrays))
    fn, rest, args, kwargs = combine(arrays, static)
    return fn, combine(moving, rest), args, kwargs


def _as_arrays(arrays: Any) -> Any:
    """Return what JAX passes to a rule as arrays: a number that it knows arrives as a Python number, whatever it was."""
    return jtu.tree_map(lambda x: x if eqx_core.is_array(x) else jnp.asarray(x), arrays)


def _split(tree: Any) -> tuple[Any, Static]:
    """Return the arrays, and the rest as structure: JAX takes nothing else."""
    arrays, rest = partition(tree, eqx_core.is_array)
    return arrays, Static(rest)


def _cotangent(with_zeros: bool, cotangent: Any) -> Any:
    """Return the cotangent of one array, None if it is zero for sure."""
    # Outside of a transformation it may be a Python number.
    dtype: Any = getattr(cotangent, "dtype", None)
    if dtype == jax.dtypes.float0:
        return None
    if type(cotangent) is not SymbolicZero:
        return _as_arrays(cotangent)
    return jnp.zeros(cotangent.shape, dtype) if with_zeros else None
