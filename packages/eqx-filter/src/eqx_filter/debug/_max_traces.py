"""Count how often a function is traced, and refuse too many times: `assert_max_traces`, `get_num_traces`."""

import inspect
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core

from .._jax_compat import hide_from_tracebacks
from .._transform import Transformed

hide_from_tracebacks(__file__)


class _Tag:
    """By its identity the copies of a function that JAX makes share their count."""

    def __repr__(self) -> str:
        return "<tag>"


# For each call there has been, its arguments in short.
_CALLS: "weakref.WeakKeyDictionary[_Tag, list[dict[str, str]]]" = weakref.WeakKeyDictionary()


class MaxTraces(Transformed):
    """What `assert_max_traces` returns."""

    fun: Callable[..., Any]
    max_traces: int | None = eqx_core.field(static=True)
    tag: _Tag = eqx_core.field(static=True)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        calls = _CALLS.setdefault(self.tag, [])
        calls.append(_described(self.fun, args, kwargs))
        if self.max_traces is not None and len(calls) > self.max_traces:
            raise RuntimeError(
                f"`assert_max_traces(fn={_name(self.fun)}, max_traces={self.max_traces})` can only be traced "
                f"{self.max_traces} times; got trace number {len(calls)}. {_responsible(calls)}"
            )
        return self.fun(*args, **kwargs)


def assert_max_traces(fn: Callable[..., Any], *, max_traces: int | None) -> Callable[..., Any]:
    """Return `fn` such that it is an error to trace it more than so many times.

    Put it inside of the compiling transformation, `filter_jit(assert_max_traces(fn, max_traces=1))`: then Python runs
    it once for each trace.

    Args:
      fn: Any callable.
      max_traces: The largest number that is no error; None to count only, for `get_num_traces`.

    Returns:
      A callable that takes and returns the same.

    Raises:
      RuntimeError: On calling it once more. It names the argument that made the difference, if one has.

    Example:
      >>> fun = eqx_filter.filter_jit(eqx_filter.debug.assert_max_traces(lambda x: x + 1, max_traces=1))
      >>> print(fun(jnp.array(1.0)), fun(jnp.array(2.0)), eqx_filter.debug.get_num_traces(fun))
      2.0 3.0 1
    """
    return MaxTraces(fn, max_traces, _Tag())


def get_num_traces(fn: Callable[..., Any]) -> int:
    """Return how often a function has been traced that `assert_max_traces` has returned.

    Args:
      fn: The function, or one of transformations around it.

    Raises:
      ValueError: There is no `assert_max_traces` around it.
    """
    inner = fn
    while not isinstance(inner, MaxTraces):
        if not hasattr(inner, "__wrapped__"):
            raise ValueError(
                f"`get_num_traces(fn=...)` must be wrapped by `assert_max_traces`; got {_name(fn)}. "
                f"Write `assert_max_traces(fn, max_traces=None)` to count only."
            )
        inner = inner.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
    return len(_CALLS.get(inner.tag, ()))


def _name(fn: Any) -> str:
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def _described(fun: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, str]:
    """Return the arguments in short, by name, and what of the function itself may change."""
    try:
        arguments = inspect.signature(fun).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        arguments = {f"args[{i}]": arg for i, arg in enumerate(args)} | kwargs
    return {name: eqx_core.tree_pformat(jtu.tree_map(_Short, arg)) for name, arg in arguments.items()}


class _Short:
    """Shows what of a leaf makes a new trace: of an array its type, of all else its value."""

    def __init__(self, leaf: Any):
        self._leaf = leaf

    def __repr__(self) -> str:
        if not eqx_core.is_array(self._leaf):
            return f"{self._leaf!r:.200}"
        kind = jax.typeof(self._leaf)
        return f"{'weak ' if kind.weak_type else ''}{kind.str_short()}"


def _responsible(calls: list[dict[str, str]]) -> str:
    *before, now = calls
    for name, text in now.items():
        others = dict.fromkeys(call[name] for call in before if name in call)
        if text not in others:
            return f"The argument {name!r} is responsible: it is\n{text}\nand has been\n" + "\n".join(others)
    return "No argument differs from all before it: look for other functions, or other settings of JAX."
