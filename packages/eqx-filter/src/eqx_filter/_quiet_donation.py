"""Keep JAX from warning that some of the donated buffers could not be used."""

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core

from ._jax_compat import hide_from_tracebacks

hide_from_tracebacks(__file__)


class QuietProgram:
    """A `jax.jit` that does not say that some donated buffers were not usable.

    JAX says it when it lowers, which follows upon tracing. So it is there that the warning is turned off, until the
    call returns: turning it off in each call would take longer than many a call. Of what is being traced itself, by
    `jax.vmap` for example, JAX may have the trace already.

    Args:
      fun: The function to trace.
      **options: Passed on to `jax.jit`.
    """

    def __init__(self, fun: Callable[..., Any], **options: Any):
        self._quiet: dict[int, contextlib.ExitStack] = {}

        def traced(*arrays: Any) -> Any:
            __tracebackhide__ = True
            self._hush()
            return fun(*arrays)

        traced.__name__ = traced.__qualname__ = fun.__name__
        self.__wrapped__ = fun
        self._program = jax.jit(traced, **options)

    def __call__(self, *arrays: Any) -> Any:
        __tracebackhide__ = True
        if any(issubclass(kind, jax.core.Tracer) for kind in set(map(type, arrays))):
            self._hush()
        try:
            return self._program(*arrays)
        finally:
            if self._quiet:
                self._unhush()

    def lower(self, *arrays: Any) -> Any:
        """As `jax.jit(...).lower`."""
        __tracebackhide__ = True
        self._hush()
        try:
            return self._program.lower(*arrays)
        finally:
            self._unhush()

    def _hush(self) -> None:
        stack = self._quiet.setdefault(threading.get_ident(), contextlib.ExitStack())
        stack.enter_context(without_donation_warning())

    def _unhush(self) -> None:
        self._quiet.pop(threading.get_ident(), contextlib.ExitStack()).close()


@contextlib.contextmanager
def without_donation_warning() -> Iterator[None]:
    """Keep JAX, while in the context, from warning that some of the donated buffers could not be used."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
        yield
