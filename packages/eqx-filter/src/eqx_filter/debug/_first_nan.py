"""Find the first NaN, Inf or overflow of a function, and where it comes from: `first_nan`."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.tree_util as jtu
import numpy as np

import eqx_core

from .._are_arrays import are_arrays
from .._axes import short
from .._eval_shape import split_call
from .._jax_compat import frames_of, hide_from_tracebacks, in_program
from ._module_scopes import module_of, naming, with_module_scopes
from ._non_finite import NonFinite, holds, range_of
from ._stepwise import Live, Place, run_stepwise, value_of

hide_from_tracebacks(__file__)


class _Found(Exception):
    """Ends the run: there is a report."""

    def __init__(self, report: NonFinite):
        super().__init__(report)
        self.report = report


def first_nan(fn: Callable[..., Any], *, inf: bool = True) -> Callable[..., NonFinite | None]:
    """Return a function that runs `fn` one operation at a time, and reports the first result that is not finite.

    It looks into `jax.jit`, `jax.checkpoint`, custom derivatives and `lax.cond`, and takes `lax.scan` and
    `lax.while_loop` step by step. To look at gradients, give it their function: `first_nan(filter_grad(loss))`. A whole
    `jax.shard_map` counts as one operation.

    It is as slow as JAX is without compilation, for debugging. A compiler may keep 16-bit numbers in more bits between
    operations, so that there an overflow can be seen here alone.

    Args:
      fn: Any callable, also one that a transformation has returned. Pass it the model as an argument, or give it as a
        method of the model: then the report names the part of the model.
      inf: Whether to look for Inf and overflow too, not for NaN alone. It is no finding if an Inf comes of another one,
        such as one that a mask puts in.

    Returns:
      A function of the arguments of `fn`. It returns None if all is finite; else a `NonFinite`. Print that.

    Raises:
      TypeError: `fn` cannot be called.
      RuntimeError: On calling the result under `jax.jit` or another transformation, where there are no values.

    Example:
      >>> class Norm(eqx_core.Module):
      ...     scale: jax.Array
      ...
      ...     def __call__(self, x):
      ...         return self.scale * x / jnp.sqrt(jnp.sum(x**2))
      >>> model = {"norm": Norm(jnp.ones(2))}
      >>> def loss(model, x):
      ...     return jnp.sum(model["norm"](x))
      >>> report = eqx_filter.debug.first_nan(eqx_filter.filter_grad(loss))(model, jnp.zeros(2))
      >>> report.kind, report.stage, report.module, report.primitive
      ('NaN', 'forward', "model['norm']", 'div')
      >>> print(report)
      NaN in the forward pass, in `model['norm']`
        ...
        File "...", line 5, in Norm.__call__
          return self.scale * x / jnp.sqrt(jnp.sum(x**2))
        div
          in   f32[2] = 0
          in   f32[] = 0
          out  f32[2], 2 NaN of 2
      >>> eqx_filter.debug.first_nan(loss)(model, jnp.ones(2))
    """
    if not callable(fn):
        raise TypeError(f"`first_nan(fn)` must be callable; got {short(fn)}. Write `first_nan(loss)(model, x)`.")

    @functools.wraps(fn, updated=())
    def run(*args: Any, **kwargs: Any) -> NonFinite | None:
        if in_program():
            raise RuntimeError(_no_values("a call inside of a function that is being compiled"))
        look = functools.partial(_look, inf)
        # JAX's own checks would raise where this reports.
        with jax.debug_nans(False), jax.debug_infs(False):
            try:
                live = _live_arguments(fn, args, kwargs, inf)
                run_stepwise(_program(fn, args, kwargs), live, look)
            except _Found as found:
                return found.report
        return None

    return run


def _live_arguments(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inf: bool) -> list[Live]:
    """Return the arrays of a call by name, having looked at each."""
    name_of = naming(fn)
    with_paths = jtu.tree_flatten_with_path((fn, args, kwargs))[0]
    live = []
    for (path, leaf), is_array in zip(with_paths, are_arrays([leaf for _, leaf in with_paths]), strict=True):
        if not is_array and not isinstance(leaf, jax.ShapeDtypeStruct):
            continue
        name = name_of(path)
        if not is_array or isinstance(leaf, jax.core.Tracer):
            raise RuntimeError(_no_values(f"{short(leaf)} for `{name}`"))
        nan, infinite = holds(leaf)
        if nan or (infinite and inf):
            kind = "NaN" if nan else "Inf"
            raise _Found(NonFinite(kind, "input", name, None, (), (), (), range_of(leaf, name)))
        live.append(Live(leaf, name))
    return live


def _no_values(got: str) -> str:
    return (
        f"`first_nan(fn)(...)` must be called where values are known; got {got}. Call it outside of `jax.jit` and the "
        f"like; `fn` may be compiled or differentiated itself."
    )


def _program(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the jaxpr of a call, with the names of Modules in it if they can be had."""
    for alike in (False, True):
        try:
            return _traced(with_module_scopes(fn, args, kwargs, alike=alike))
        except Exception:
            # Modules with names may not have the structure that they had. Without them `fn` raises what is its own.
            continue
    return _traced((fn, args, kwargs))


def _traced(call: Any) -> Any:
    run, arrays = split_call(*jtu.tree_flatten(call))
    return jax.make_jaxpr(run)(arrays)


def _look(inf: bool, eqn: Any, operands: list[Any], results: list[Live], place: Place) -> None:
    for result in results:
        nan, infinite = holds(result.value)
        created = infinite and inf and not any(holds(value_of(x))[1] for x in operands)
        if nan or created:
            raise _Found(_report("NaN" if nan else _kind_of_inf(eqn, operands), eqn, operands, result, place))


def _report(kind: Any, eqn: Any, operands: list[Any], result: Live, place: Place) -> NonFinite:
    return NonFinite(
        kind=kind,
        stage="backward" if place.backward else "forward",
        module=module_of(place.scopes),
        primitive=eqn.primitive.name,
        frames=tuple(frame for frame in reversed(frames_of(eqn)) if not frame[0].startswith(_OURS)),
        steps=place.steps,
        inputs=tuple(range_of(value_of(x), x.name if isinstance(x, Live) else None) for x in operands),
        output=range_of(result.value),
    )


_OURS = tuple(os.path.dirname(file) + os.sep for file in (eqx_core.__file__, os.path.dirname(__file__)))
_POLES = {"log", "log1p", "rsqrt", "atanh", "erf_inv", "digamma", "lgamma", "tan"}
# Of these it is one if that operand is 0.
_POLES_AT_ZERO = {"div": 1, "pow": 0, "integer_pow": 0}


def _kind_of_inf(eqn: Any, operands: list[Any]) -> str:
    """Tell an Inf that is meant mathematically from a number that has become too large."""
    name = eqn.primitive.name
    if name in _POLES_AT_ZERO:
        return "Inf" if (np.asarray(value_of(operands[_POLES_AT_ZERO[name]])) == 0).any() else "overflow"
    return "Inf" if name in _POLES else "overflow"
