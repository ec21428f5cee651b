"""Carry a check along in a program: the primitive that `error_if` puts there, and how to find it again."""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ._check_message import batch_message
from ._jax_compat import (
    define_batching,
    define_derivatives,
    define_lowering_for_devices,
    hide_from_tracebacks,
    is_undefined,
    needs_devices,
    new_primitive,
    staged_equations,
)
from ._runtime_error import Failure, Stack, joined, on_host

hide_from_tracebacks(__file__)


@dataclasses.dataclass(frozen=True, eq=False)
class Check:
    """One check in the text of a program.

    Attributes:
      msgs: What it may say, by index.
      fill: Makes the values that go into the messages from the arrays among them.
      stack: Where it was made.
      poison: Whether a failure shall not be an error, but turn what is checked into NaN.
      when_compiled: Whether it counts only in a program, not where it is run at once.
    """

    msgs: tuple[str, ...]
    fill: Callable[[list[Any]], dict[str, Any]]
    stack: Stack
    poison: bool = False
    when_compiled: bool = False

    def failure(self, levels: Sequence[tuple[bool, ...]], conditions: Sequence[Any]) -> Failure:
        """Return what there is to report, given the values of the conditions."""
        return Failure(batch_message(self.msgs, levels, conditions, self.fill), self.stack)


LATE = jax.make_user_context(False)
"""Whether programs leave it to `wait` to report their failures."""
LATE_FAILURES: list[Failure] = []
"""What is to be reported by `wait`."""
UNRAISED: list[Failure] = []
"""What is to be reported when the program is done: where others wait for it, a device must not stop in the middle."""

check_p = new_primitive("runtime_check")
"""`(pred, index, *values, *xs) -> xs`, where `count` is the number of operands that are not among `xs`."""
check_p.multiple_results = True


def staged_check(check: Check, conditions: Sequence[Any], xs: Sequence[Any], levels: Any = ()) -> Sequence[Any]:
    """Return the arrays `xs`, which can be had only if the check passes.

    Args:
      check: The check.
      conditions: Whether it fails, the index of its message, the values in it.
      xs: Any arrays.
      levels: As in `batch_message`.
    """
    if not isinstance(conditions[0], jax.core.Tracer) and not np.asarray(conditions[0]).any():
        return xs
    return check_p.bind(*conditions, *xs, check=check, levels=levels, count=len(conditions))


@check_p.def_impl
def _at_once(*operands: Any, check: Check, levels: Any, count: int) -> list[Any]:
    __tracebackhide__ = True
    conditions, xs = operands[:count], list(operands[count:])
    if check.when_compiled or not np.asarray(conditions[0]).any():
        return xs
    if check.poison:
        return list(map(nan_like, xs))
    raise check.failure(levels, conditions).presented_at_once()


@check_p.def_abstract_eval
def _types(*operands: Any, count: int, **_: Any) -> list[Any]:
    return list(operands[count:])


def _compiled(*operands: Any, check: Check, levels: Any, count: int, devices: int) -> list[Any]:
    late, stop = bool(LATE.value), devices == 1

    def fail(conditions: Any, xs: Any) -> list[Any]:
        if check.poison:
            return list(map(nan_like, xs))
        report = functools.partial(_report, check, levels, late, stop)
        go_on = jax.pure_callback(report, jax.ShapeDtypeStruct((), np.bool_), *conditions)
        # Some platforms go on after an error on the host, and a failure that is reported later is none yet. Of a
        # `jnp.where` XLA would see that it is NaN either way if `x` is, and then drop the callback.
        return [jax.lax.cond(go_on, lambda x: x, nan_like, x) for x in xs]

    # Measured against a `jnp.where` for each array: as quick for small ones, and large ones are not copied.
    failed = jnp.any(operands[0])
    return jax.lax.cond(failed, fail, lambda _, xs: xs, list(operands[:count]), list(operands[count:]))


def _report(check: Check, levels: Any, late: bool, stop: bool, *conditions: Any) -> np.ndarray:
    failure = check.failure(levels, [np.asarray(condition) for condition in conditions])
    if late:
        LATE_FAILURES.append(failure)
    elif not stop:
        UNRAISED.append(failure)
    if stop:
        raise on_host(failure, late=late)
    return np.asarray(False)


def raise_unraised() -> None:
    """Raise what checks have found in a program that has just finished on several devices."""
    failures = take(UNRAISED)
    if failures:
        raise on_host(joined(failures))


def take(failures: list[Failure]) -> list[Failure]:
    """Return the failures and empty the list."""
    taken = failures.copy()
    # Other threads may add to it meanwhile.
    del failures[: len(taken)]
    return taken


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, count: int, **params: Any) -> Any:
    __tracebackhide__ = True
    return check_p.bind(*primals, count=count, **params), list(tangents[count:])


def _transpose(cotangents: Sequence[Any], *operands: Any, count: int, **_: Any) -> list[Any]:
    xs = zip(cotangents, operands[count:], strict=True)
    return [None] * count + [cotangent if is_undefined(x) else None for cotangent, x in xs]


def _batch(_: Any, operands: Any, axes: Any, *, check: Check, levels: Any, count: int) -> Any:
    __tracebackhide__ = True
    conditions = [
        jnp.moveaxis(x, axis, 0) if axis else x for x, axis in zip(operands[:count], axes[:count], strict=True)
    ]
    mapped = tuple(axis is not None for axis in axes[:count])
    levels = (mapped, *levels) if any(mapped) else levels
    return staged_check(check, conditions, list(operands[count:]), levels), list(axes[count:])


define_derivatives(check_p, _jvp, _transpose)
define_batching(check_p, _batch)
define_lowering_for_devices(check_p, _compiled)
needs_devices(check_p)


def nan_like(x: Any) -> Any:
    """Return an array of the same type that nobody takes for a result: of NaN, the largest integer, or True."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jr.wrap_key_data(nan_like(jr.key_data(x)), impl=jr.key_impl(x))
    if jnp.issubdtype(x.dtype, np.inexact):
        return jnp.full_like(x, np.nan)
    if jnp.issubdtype(x.dtype, np.integer):
        return jnp.full_like(x, jnp.iinfo(x.dtype).max)
    return jnp.full_like(x, True) if x.dtype == np.bool_ else x


_HOLDS_CHECK: "weakref.WeakKeyDictionary[Any, bool]" = weakref.WeakKeyDictionary()


def check_in_trace() -> bool:
    """Tell whether the program that is being traced holds a check so far, in an inner program perhaps."""
    return _among(staged_equations())


def _among(equations: Iterable[Any]) -> bool:
    return any(_is_check(equation) or any(map(_inside, _programs_in(equation))) for equation in equations)


def _is_check(equation: Any) -> bool:
    return equation.primitive is check_p and not equation.params["check"].poison


def _inside(jaxpr: Any) -> bool:
    known = _HOLDS_CHECK.get(jaxpr)
    if known is None:
        known = _HOLDS_CHECK[jaxpr] = _among(jaxpr.eqns)
    return known


def _programs_in(equation: Any) -> Iterable[Any]:
    for param in equation.params.values():
        for each in param if isinstance(param, (tuple, list)) else (param,):
            jaxpr = getattr(each, "jaxpr", each)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr
