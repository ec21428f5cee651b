"""Report failed checks late: programs under `filter_jit(checks="late")`, and `wait`."""

import atexit
import sys
from typing import Any

import jax.core

from ._jax_compat import hide_from_tracebacks
from ._jit_output import Output
from ._runtime_check import LATE, LATE_FAILURES, UNRAISED, take
from ._runtime_error import EquinoxRuntimeError, joined

hide_from_tracebacks(__file__)

# One output of each program that holds a check and has not finished yet.
_PENDING: list[Any] = []


class LateProgram:
    """A program whose checks go on with NaN when they fail, and leave it to `wait` to raise.

    Args:
      program: A `jax.jit`, of a function that returns an `Output`.
    """

    def __init__(self, program: Any):
        self.__wrapped__ = program.__wrapped__
        self._program = program

    def __call__(self, *arrays: Any) -> Output:
        __tracebackhide__ = True
        if any(isinstance(array, jax.core.Tracer) for array in arrays):
            # It is a part of another program, whose checks are made as that one has them.
            return self._program(*arrays)
        with LATE(True):
            output = self._program(*arrays)
        if type(output) is Output:
            return output
        _PENDING[:] = [array for array in _PENDING if not (array.is_deleted() or array.is_ready())]
        _PENDING.extend(sorted(output.args[0], key=lambda array: array.size)[:1])
        return Output(output.func, output.args[0])

    def lower(self, *arrays: Any) -> Any:
        """As `jax.jit(...).lower`."""
        __tracebackhide__ = True
        with LATE(True):
            return self._program.lower(*arrays)


def wait() -> None:
    """Wait for the calls of functions under `filter_jit(..., checks="late")`, and raise if a check in them failed.

    Each failure is reported once, those of several calls together. So are those of programs that `jax.jit`, rather than
    `filter_jit`, has run on several devices at once, which can only go on with NaN. What is not reported by the time that Python ends
    is printed.

    Raises:
      EquinoxRuntimeError: A check has failed since the last time.

    Example:
      >>> @eqx_filter.filter_jit(checks="late")
      ... def root(x):
      ...     return jnp.sqrt(eqx_filter.error_if(x, x < 0, "must not be negative"))
      >>> print(root(jnp.array(-4.0)))
      nan
      >>> try:
      ...     eqx_filter.wait()
      ... except eqx_filter.EquinoxRuntimeError as error:
      ...     print("must not be negative" in str(error))
      True
    """
    __tracebackhide__ = True
    while _PENDING:
        array = _PENDING.pop()
        if not array.is_deleted():
            array.block_until_ready()
    failures = [*take(LATE_FAILURES), *take(UNRAISED)]
    if failures:
        raise joined(failures).presented()


def _report_the_rest() -> None:
    try:
        wait()
    except EquinoxRuntimeError as error:
        print(f"EquinoxRuntimeError: `eqx_filter.wait` was not called. {error}", file=sys.stderr)


atexit.register(_report_the_rest)
