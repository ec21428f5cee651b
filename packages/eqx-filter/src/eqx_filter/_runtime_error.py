"""Present a check that failed while a program ran: `EquinoxRuntimeError`, with the user's own frames."""

import dataclasses
import functools
import itertools
import linecache
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax

import eqx_core

from ._jax_compat import hide_from_tracebacks

hide_from_tracebacks(__file__)

_ADVICE = """
--------------------
A check failed while the program ran. To look at it where it happens, set the environment variable
`EQX_ON_ERROR=breakpoint`, which opens a debugger, or `EQX_ON_ERROR=nan`, which goes on with NaNs. With
`JAX_DISABLE_JIT=1` the check fails at the very line of Python that makes it."""
_RULE = "\n\n--------------------\n"
_PLAIN_ADVICE = f"{_RULE}Compile with `eqx_filter.filter_jit` to have the place of the check shown as well."
_LATE_ADVICE = f"{_RULE}Call `eqx_filter.wait()` to have the place of the check shown as well."
_P = ParamSpec("_P")
_R = TypeVar("_R")
_LIBRARIES = tuple(
    os.path.dirname(file) + os.sep for file in (jax.__file__, eqx_core.__file__, __file__, os.__file__) if file
)
_SITE_PACKAGES = os.path.join(os.path.dirname(os.__file__), "site-packages") + os.sep


class EquinoxRuntimeError(RuntimeError):
    """What `error_if` and its like raise when a check fails."""

    logged_by_jax = False

    def __reduce__(self) -> Any:
        # Under the name that tracebacks show it cannot be looked up.
        return _rebuild, self.args


def _rebuild(*args: Any) -> EquinoxRuntimeError:
    return EquinoxRuntimeError(*args)


# Tracebacks then show the bare name.
EquinoxRuntimeError.__module__ = "builtins"
EquinoxTracetimeError = EquinoxRuntimeError
"""The same class: whether a check fails while a function is traced or when it runs makes no difference to who catches."""
EqxRuntimeError = EquinoxRuntimeError
"""The same class under the name of this library."""


class _EquinoxRuntimeError(RuntimeError):
    """What a check raises on the host, of which JAX makes an error of its own."""

    logged_by_jax = False


class Frame(NamedTuple):
    """A line of the user's that was being run."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        return f'  File "{self.file}", line {self.line}, in {self.function}' + (f"\n    {source}" if source else "")


# The user's frames, innermost first; in between, a mark for each function that `filter_jit` was tracing.
Stack = tuple[Any, ...]


def stack_here() -> Stack:
    """Return what of the stack of calls is the user's."""
    stack: list[Any] = []
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if "jit_boundary" in code.co_freevars:
            stack.append(frame.f_locals["jit_boundary"])
        elif not _is_library(code.co_filename):
            stack.append(Frame(code.co_filename, frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    return tuple(stack)


def _is_library(file: str) -> bool:
    if file.startswith(_SITE_PACKAGES):
        return file.startswith(_LIBRARIES[:-1])
    return file.startswith(_LIBRARIES) or file.startswith("<frozen")


def _inside(stack: Stack, boundary: Any) -> list[Frame]:
    """Return the frames between a check and the program that ran it, outermost first.

    A check that was traced as a part of another program knows no more than the way to the innermost `filter_jit`. If it
    is not known which program has run it (None), it is taken to be the outermost.
    """
    boundaries = [i for i, entry in enumerate(stack) if not isinstance(entry, Frame)]
    own = [i for i in boundaries if stack[i] is boundary]
    end = own[-1] if own else boundaries[0 if boundary else -1] if boundaries else len(stack)
    return [entry for entry in reversed(stack[:end]) if isinstance(entry, Frame)]


@dataclasses.dataclass(eq=False)
class Failure:
    """A check that failed.

    Attributes:
      text: What it says.
      stack: Where it was made.
      reported: Whether an error that presents it has been raised.
    """

    text: str
    stack: Stack
    reported: bool = False

    def presented(self, boundary: Any = None) -> EquinoxRuntimeError:
        """Return the error to raise out of the program that was traced inside of the mark `boundary`, if it is known."""
        self.reported = True
        return EquinoxRuntimeError(_presentation(self.text, _inside(self.stack, boundary)))

    def presented_at_once(self) -> EquinoxRuntimeError:
        """Return the error to raise where the check is not part of any program."""
        return EquinoxRuntimeError(_presentation(self.text, [x for x in self.stack if isinstance(x, Frame)][:1]))


def joined(failures: Sequence[Failure]) -> Failure:
    """Return one failure that says what they all say, each text once."""
    return Failure("\n\n".join(dict.fromkeys(failure.text for failure in failures)), failures[0].stack)


def _presentation(text: str, frames: Sequence[Frame]) -> str:
    lines = [
        "Above is the stack outside of JIT.",
        "Below is the stack inside of JIT, as it was when the function was traced:",
        *map(str, frames),
        f"EquinoxRuntimeError: {text}",
        _ADVICE,
    ]
    return "\n".join(lines)


# The text of an error is all that JAX hands on of it, so a number in it has to tell which failure it was.
_NUMBERS = itertools.count()
_RECENT: dict[int, Failure] = {}
_LIMIT = 256
_LOCK = threading.Lock()
_MARK = re.compile(r"_EquinoxRuntimeError: \[failure (\d+)\]")
_PRESENTED = re.compile(r"^EquinoxRuntimeError: (?!Above is the stack)(.*?)^-{20}$", re.DOTALL | re.MULTILINE)


def on_host(failure: Failure, *, late: bool = False) -> Exception:
    """Return the error to raise in a host callback; `late` if it is `wait` that will present it."""
    with _LOCK:
        number = next(_NUMBERS)
        _RECENT[number] = failure
        _RECENT.pop(number - _LIMIT, None)
    return _EquinoxRuntimeError(f"[failure {number}] {failure.text}{_LATE_ADVICE if late else _PLAIN_ADVICE}")


def presented(error: Exception, program: Any) -> EquinoxRuntimeError | None:
    """Return what to raise instead of `error`, which `program` has raised, or None if it is not about a check."""
    failure = failure_in(error)
    if failure is None:
        return None
    return failure.presented(getattr(getattr(program, "__wrapped__", None), "jit_boundary", None))


def short(error: Exception) -> str:
    """Return what an error says of a check, without how JAX came to hear of it."""
    text = f"{type(error).__name__}: {error}"
    found = _MARK.search(text)
    return text if found is None else text[found.start() :]


def failure_in(error: Any) -> Failure | None:
    """Return the check of which an error of JAX tells, or None if it tells of something else."""
    if not isinstance(error, (ValueError, jax.errors.JaxRuntimeError, _EquinoxRuntimeError)):
        return None
    text = f"{type(error).__name__}: {error}"
    found = _MARK.search(text)
    if found is not None:
        return _RECENT.get(int(found[1]))
    # A program that ran in a callback of this one has presented it already.
    found = _PRESENTED.search(text)
    return None if found is None else Failure(found[1].rstrip(), ())


def without_inner_frames(fun: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return `fun` such that a failed check is raised as if by the caller's own line."""

    @functools.wraps(fun)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return fun(*args, **kwargs)
        except EquinoxRuntimeError as error:
            # What is raised anew gets no entry for the frame that does it.
            error.__traceback__ = None
            raise

    return called
