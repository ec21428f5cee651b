"""Bind an instance or arguments to a function, as a PyTree: `BoundMethod`, `Partial`."""

import types
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from . import _method
from ._borrow import borrow_attributes
from ._checks import BOUND
from ._field import field
from ._module import Module

_Return = TypeVar("_Return")


class BoundMethod(Module):
    """A method of a Module, bound to an instance: what `instance.method` gives.

    Its one child is the instance, so it can be passed through transformations. Two are equal if their functions are
    and their instances are. If the instance cannot be hashed, because it holds arrays, it is hashed by identity, as
    Python's own methods are: so it can be the step of a `jax.lax.scan`. Attributes that it does not have itself are those
    of the function.

    Example:
      >>> class Doubler(Module):
      ...     by: float
      ...
      ...     def double(self, x):
      ...         return self.by * x
      >>> Doubler(2.0).double
      BoundMethod(__func__=<function Doubler.double>, __self__=Doubler(by=2.0))
      >>> Doubler(2.0).double == Doubler(2.0).double
      True
    """

    __func__: Callable[..., Any] = field(static=True)
    __self__: Any

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    @property
    def __wrapped__(self) -> types.MethodType:
        return types.MethodType(self.__func__, self.__self__)

    def __hash__(self) -> int:
        try:
            return super().__hash__()
        except TypeError:
            return hash((self.__func__, id(self.__self__)))

    def __eq__(self, other: object) -> Any:
        # The caches of JAX compare what may hold traced values, of which `==` says nothing.
        if type(other) is BoundMethod and other.__self__ is self.__self__ and other.__func__ is self.__func__:
            return True
        return super().__eq__(other)

    def __reduce__(self) -> Any:
        return BoundMethod, (self.__func__, self.__self__)

    def __getattr__(self, name: str) -> Any:
        # The first is not there yet while a copy is being made. The other would count `self`.
        if name in {"__func__", "__signature__"}:
            raise AttributeError(name)
        return getattr(self.__func__, name)


borrow_attributes(BoundMethod, "__func__")
_method.bound_method = BoundMethod
BOUND.add(BoundMethod)


class Partial(Module, Generic[_Return]):
    """Fix some arguments of a callable, as `functools.partial` does; callable and arguments are children.

    Two are equal if these are. One that holds what cannot be hashed, arrays for example, is hashed by identity.

    Args:
      func: The callable.
      *args: Its first positional arguments.
      **kwargs: Keyword arguments; giving one of them again in a call is a TypeError.

    Example:
      >>> Partial(pow, 2)(5)
      32
    """

    func: Callable[..., _Return]
    args: tuple[Any, ...]
    keywords: dict[str, Any]

    def __init__(self, func: Callable[..., _Return], /, *args: Any, **kwargs: Any):
        self.func = func
        self.args = args
        self.keywords = kwargs

    def __hash__(self) -> int:
        try:
            return super().__hash__()
        except TypeError:
            return id(self)

    def __eq__(self, other: object) -> Any:
        return self is other or super().__eq__(other)

    def __call__(self, /, *args: Any, **kwargs: Any) -> _Return:
        return self.func(*self.args, *args, **kwargs, **self.keywords)
