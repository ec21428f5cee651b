"""Say why a jitted function is traced again: `explain_retrace`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import eqx_core

from .._axes import short
from .._jit import Jitted
from .._jitf import JitF
from .._retraces import to_stderr


def explain_retrace(fn: Any, *, report: Callable[[str], Any] = to_stderr) -> Any:
    """Return a function that does what the jitted function `fn` does, and says why when it is traced or compiled again.

    For each call that is, but the first, it reports the key paths whose shape, dtype, weak type, sharding, structure or
    static value is another than in the most similar call before, with the old and the new one. `fn` itself stays as it
    is, and costs what it did. With `EQX_EXPLAIN_RETRACE=1` in the environment when eqx-filter is imported, all functions
    of `filter_jit` report.

    Args:
      fn: What `filter_jit` returns, or a method under it.
      report: Called with the text; printing it to standard error is the default.

    Returns:
      A function of the same arguments, with compiled programs of its own.

    Raises:
      TypeError: `fn` is not jitted, or by `jax.jit`.

    Example:
      >>> f = eqx_filter.debug.explain_retrace(eqx_filter.filter_jit(lambda x, n: x["a"] * n), report=print)
      >>> _ = f({"a": jnp.ones(2)}, 1)
      >>> _ = f({"a": jnp.ones(3)}, 1)
      `<lambda>` is traced again, for the 2nd time. Since the most similar call:
        `x['a']`: shape (2,) became (3,)
    """
    if isinstance(fn, JitF):
        return dataclasses.replace(fn, jitted=explain_retrace(fn.jitted, report=report))
    if isinstance(fn, Jitted):
        options = {**dict(fn.options), "explain": report}
        return dataclasses.replace(fn, options=tuple(sorted(options.items())))
    if isinstance(fn, eqx_core.Partial) and isinstance(fn.func, (Jitted, JitF)):
        return eqx_core.Partial(explain_retrace(fn.func, report=report), *fn.args, **fn.keywords)
    raise TypeError(
        f"`explain_retrace(fn)` must be given a function that `filter_jit` has returned; got {short(fn)}. Write "
        f"`explain_retrace(filter_jit(fun))`."
    )
