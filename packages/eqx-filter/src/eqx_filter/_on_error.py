"""Choose what a failed check does: `on_error`, and the environment variables `EQX_ON_ERROR...`."""

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping

import jax

MODES = ("raise", "breakpoint", "nan", "off")

# Part of the cache key of `jax.jit`, so that a function is traced anew under another policy.
_POLICY = jax.make_user_context(None)


def _of_environment(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return the mode and the number of frames that the environment asks for.

    Raises:
      ValueError: A variable has a value that it may not have.
    """
    mode = environment.get("EQX_ON_ERROR", "raise")
    if mode not in MODES:
        raise ValueError(
            f"`EQX_ON_ERROR` must be one of {', '.join(map(repr, MODES))}; got {mode!r}. Set it to one of them before "
            f"the import, or leave it unset."
        )
    frames = environment.get("EQX_ON_ERROR_BREAKPOINT_FRAMES", "1")
    if not frames.isdecimal() or int(frames) < 1:
        raise ValueError(
            f"`EQX_ON_ERROR_BREAKPOINT_FRAMES` must be a number of frames, at least 1; got {frames!r}. Set it to such "
            f"before the import, or leave it unset."
        )
    if mode == "breakpoint":
        warnings.warn(
            "`EQX_ON_ERROR=breakpoint` is set: a failed check will wait for input at a debugger. Unset it for a "
            "program that runs unattended.",
            stacklevel=2,
        )
    return mode, int(frames)


_DEFAULT, BREAKPOINT_FRAMES = _of_environment(os.environ)


@contextlib.contextmanager
def on_error(mode: str) -> Iterator[None]:
    """Let the checks that say nothing themselves do `mode` in this context, whatever the environment variable says.

    It counts when a function is called: one that was compiled under another mode is compiled anew.

    Args:
      mode: `"raise"` an error; `"breakpoint"`, open a debugger; `"nan"`, put NaN, of integers the largest, in the
        place of what was checked; or `"off"`, do not check at all.

    Raises:
      ValueError: `mode` is none of these.

    Example:
      >>> root = jax.jit(lambda x: jnp.sqrt(eqx_filter.error_if(x, x < 0, "must not be negative")))
      >>> with eqx_filter.on_error("nan"):
      ...     print(root(-4.0))
      nan
    """
    if mode not in MODES:
        raise ValueError(
            f"`on_error(mode=...)` must be one of {', '.join(map(repr, MODES))}; got {mode!r}. "
            f"Write `with on_error('off'):` to run without checks."
        )
    with _POLICY(mode):
        yield


def mode_of(on_error: str) -> str:
    """Return the mode that `error_if(..., on_error=...)` asks for, here and now.

    Raises:
      RuntimeError: There is no such mode.
    """
    if on_error == "default":
        return _POLICY.value or _DEFAULT
    if on_error not in MODES:
        raise RuntimeError(
            f"`error_if(on_error=...)` must be 'default' or one of {', '.join(map(repr, MODES))}; got {on_error!r}. "
            f"Leave it out to follow the context and the environment variable `EQX_ON_ERROR`."
        )
    return on_error
