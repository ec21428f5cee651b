"""Report failed checks late: programs under `filter_jit(checks="late")`, and `wait`."""

import atexit
import collections
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax.core

from ._jax_compat import forget_failed_programs, hide_from_tracebacks
from ._jit_output import OncePassed, Output
from ._runtime_check import LATE, LATE_FAILURES, UNRAISED, take
from ._runtime_error import EquinoxRuntimeError, failure_in, joined, short, without_inner_frames
from ._unreadable import unreadable

hide_from_tracebacks(__file__)

# One output of each program that holds a check and may not have finished yet.
_PENDING: collections.deque[Any] = collections.deque()
_MANY = 16


class LateProgram:
    """A program whose failed checks raise when its results are read, or in `wait`.

    Args:
      program: A `jax.jit`, of a function that returns an `Output`.
    """

    def __init__(self, program: Any):
        self.__wrapped__ = program.__wrapped__
        self._program = program

    def __call__(self, *arrays: Any) -> Output:
        __tracebackhide__ = True
        for array in arrays:
            if isinstance(array, jax.core.Tracer):
                # It is a part of another program, whose checks are made as that one has them.
                return self._program(*arrays)
        with LATE(True):
            return run_late(self._program, arrays, lambda: self._program.lower(*arrays).compile())

    def lower(self, *arrays: Any) -> Any:
        """As `jax.jit(...).lower`."""
        __tracebackhide__ = True
        with LATE(True):
            return self._program.lower(*arrays)


def run_late(program: Callable[..., Output], arrays: Sequence[Any], compiled: Callable[[], Any]) -> Output:
    """Run a program, and leave it to its results and to `wait` to raise.

    Args:
      program: The program, made under `LATE`.
      arrays: What to run it on.
      compiled: Returns the `jax.stages.Compiled` that is run.
    """
    __tracebackhide__ = True
    try:
        output = program(*arrays)
    except Exception as error:
        # Some programs have run when the call returns. Those tell of it there and then.
        failed = unreadable(compiled(), short(error)) if failure_in(error) else None
        if failed is None:
            raise
        _note(error)
        output = failed
    finish: Any = output.func
    if type(finish) is not OncePassed:
        return output
    _PENDING.append(output.args[0][finish.smallest])
    if len(_PENDING) > _MANY:
        _settle_the_finished()
    return Output(finish.rebuild, output.args[0])


def _note(error: Exception) -> bool:
    """Note the failure of which an error of JAX tells as one to be reported; return whether it tells of one."""
    failure = failure_in(error)
    if failure is not None and not failure.reported and failure not in LATE_FAILURES:
        LATE_FAILURES.append(failure)
    return failure is not None


def _settle_the_finished() -> None:
    for _ in range(len(_PENDING)):
        array = _next_pending()
        if array is not None and not array.is_deleted() and not array.is_ready():
            _PENDING.append(array)
        else:
            _settle(array)


def _next_pending() -> Any:
    try:
        return _PENDING.popleft()
    except IndexError:  # Another thread was quicker.
        return None


def _settle(array: Any) -> Exception | None:
    """Wait for an output, and return why it cannot be had, if it is not because of a check."""
    try:
        if array is not None and not array.is_deleted():
            array.block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        return None if _note(error) else error
    return None


@without_inner_frames
def wait() -> None:
    """Wait for the calls of functions under `filter_jit(..., checks="late")`, and raise if a check in them failed.

    Each failure is raised once, those of several calls together. So are those of programs that `jax.jit`, rather than
    `filter_jit`, has run on several devices at once, which can only go on with NaN. What is not reported by the time
    that Python ends is printed.

    Raises:
      EquinoxRuntimeError: A check has failed since the last time.

    Example:
      >>> @eqx_filter.filter_jit(checks="late")
      ... def root(x):
      ...     return jnp.sqrt(eqx_filter.error_if(x, x < 0, "must not be negative"))
      >>> y = root(jnp.array(-4.0))
      >>> try:
      ...     print(y)
      ... except jax.errors.JaxRuntimeError as error:
      ...     print("must not be negative" in str(error))
      True
      >>> try:
      ...     eqx_filter.wait()
      ... except eqx_filter.EquinoxRuntimeError as error:
      ...     print("must not be negative" in str(error))
      True
    """
    __tracebackhide__ = True
    while _PENDING:
        other = _settle(_next_pending())
        if other is not None:
            raise other
    forget_failed_programs(lambda error: failure_in(error) is not None)
    failures = [failure for failure in (*take(LATE_FAILURES), *take(UNRAISED)) if not failure.reported]
    for failure in failures:
        failure.reported = True
    if failures:
        raise joined(failures).presented()


def _report_the_rest() -> None:
    shown = failure_in(getattr(sys, "last_value", None))
    if shown is not None:
        # Python ends because of it.
        shown.reported = True
    try:
        wait()
    except EquinoxRuntimeError as error:
        print(f"EquinoxRuntimeError: `eqx_filter.wait` was not called. {error}", file=sys.stderr)


atexit.register(_report_the_rest)
