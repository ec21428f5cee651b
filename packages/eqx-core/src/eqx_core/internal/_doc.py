"""Show a shorter signature in generated documentation: `doc_repr` and `doc_remove_args`."""

import inspect
import typing
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_Fn = TypeVar("_Fn", bound=Callable[..., Any])


class _WithRepr:
    def __init__(self, string: str):
        self.string = string

    def __repr__(self) -> str:
        return self.string


def doc_repr(obj: _T, string: str) -> _T:
    """Return `obj`; while documentation is generated, something that prints as `string` instead.

    Meant for default arguments whose `repr` is no use to a reader. A documentation build is recognised by the attribute
    `typing.GENERATING_DOCUMENTATION`, which has to be set before the documented package is imported.

    Example:
      >>> from eqx_core.internal import doc_repr
      >>> doc_repr(len, "<function len>") is len
      True
    """
    if _generating_documentation():
        return typing.cast(_T, _WithRepr(string))
    return obj


def doc_remove_args(*args: str) -> Callable[[_Fn], _Fn]:
    """Return a decorator that leaves the arguments named out of a function's documented signature.

    Outside of a documentation build it does nothing. The function can always be called with them.

    Example:
      >>> from eqx_core.internal import doc_remove_args
      >>> @doc_remove_args("_private")
      ... def f(x, _private=None):
      ...     return x
      >>> f(1, _private=2)
      1
    """

    def decorator(fn: _Fn) -> _Fn:
        if not _generating_documentation():
            return fn
        signature = inspect.signature(fn)
        shown = [p for name, p in signature.parameters.items() if name not in args]
        fn.__signature__ = signature.replace(parameters=shown)
        return fn

    return decorator


def _generating_documentation() -> bool:
    return hasattr(typing, "GENERATING_DOCUMENTATION")
