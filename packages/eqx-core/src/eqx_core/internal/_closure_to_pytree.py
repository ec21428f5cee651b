"""Turn functions into PyTrees of what they close over: `closure_to_pytree`."""

import dataclasses
import types
from collections.abc import Callable
from typing import Any

import jax.tree_util as jtu

from .._module import Module


def closure_to_pytree(tree: Any) -> Any:
    """Return `tree` with each plain function replaced by a callable PyTree node of what the function closes over.

    An array that a function has in its closure is invisible to JAX: a constant of whatever is compiled. In the node it is a
    leaf. So two optimisers that were built with different arrays for the learning rate are two values of one PyTree
    structure and can share one compiled function.

    The contents of the closure's cells and the default values are converted in turn, and a function may refer to itself or to
    those around it. Each call of the node rebuilds the function, so that what it assigns to `nonlocal` names is lost.

    Args:
      tree: Any PyTree. Only what `def` and `lambda` make is replaced: not builtins, bound methods, `functools.partial` or
        the results of JAX's transforms.

    Returns:
      A PyTree. In each node the function's code is one leaf, which is no array: it equals that of another function if both
      come from the same place in the same module, and hashes accordingly.

    Example:
      >>> from eqx_core.internal import closure_to_pytree
      >>> def scale_by(factor):
      ...     return lambda x: factor * x
      >>> double = closure_to_pytree(scale_by(jnp.array([2.0])))
      >>> double(jnp.array([10.0])), jax.tree.leaves(double)[1]
      (Array([20.], dtype=float32), Array([2.], dtype=float32))
    """
    return _convert(tree, ())


class _Code:
    """A function without what it closes over: equal to another of the same code in the same module."""

    __slots__ = ("fn",)

    def __init__(self, fn: types.FunctionType):
        self.fn = fn

    def _key(self) -> tuple[Any, ...]:
        fn = self.fn
        # What a function reads from its own attributes is not in its code.
        itself = fn if fn.__dict__.keys() - {"__wrapped__"} else None
        return fn.__qualname__, fn.__module__, fn.__code__, id(fn.__globals__), itself

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Code) and (self.fn is other.fn or self._key() == other._key())

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"<function {self.fn.__qualname__}>"


@jtu.register_static
@dataclasses.dataclass(frozen=True)
class _Empty:
    """Stands for a cell that holds nothing yet."""


@jtu.register_static
@dataclasses.dataclass(frozen=True)
class _Enclosing:
    """Stands for a function inside of its own closure: the one `up` functions above the innermost."""

    up: int


class _Closure(Module):
    code: _Code
    contents: tuple[Any, ...]
    defaults: tuple[Any, ...] | None
    kwdefaults: dict[str, Any] | None

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return _rebuild(self, ())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _rebuild(self, ())(*args, **kwargs)


def _convert(tree: Any, enclosing: tuple[types.FunctionType, ...]) -> Any:
    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, types.FunctionType):
            return leaf
        for up, fn in enumerate(reversed(enclosing)):
            if leaf is fn:
                return _Enclosing(up)
        return _closure(leaf, (*enclosing, leaf))

    return jtu.tree_map(convert, tree)


def _closure(fn: types.FunctionType, enclosing: tuple[types.FunctionType, ...]) -> _Closure:
    return _Closure(
        code=_Code(fn),
        contents=tuple(_contents(cell, enclosing) for cell in fn.__closure__ or ()),
        defaults=_convert(fn.__defaults__, enclosing),
        kwdefaults=_convert(fn.__kwdefaults__, enclosing),
    )


def _contents(cell: types.CellType, enclosing: tuple[types.FunctionType, ...]) -> Any:
    # Of two cells of which one is empty, Python only asks whether the other is so too.
    return _Empty() if cell == types.CellType() else _convert(cell.cell_contents, enclosing)


def _rebuild(closure: _Closure, enclosing: tuple[types.FunctionType, ...]) -> types.FunctionType:
    old = closure.code.fn
    cells = tuple(types.CellType() for _ in closure.contents)
    fn = types.FunctionType(old.__code__, old.__globals__, old.__name__, None, cells)
    enclosing = (*enclosing, fn)
    for cell, content in zip(cells, closure.contents, strict=True):
        if not isinstance(content, _Empty):
            cell.cell_contents = _restore(content, enclosing)
    fn.__defaults__ = _restore(closure.defaults, enclosing)
    fn.__kwdefaults__ = _restore(closure.kwdefaults, enclosing)
    fn.__qualname__, fn.__module__, fn.__doc__ = old.__qualname__, old.__module__, old.__doc__
    fn.__annotations__ = old.__annotations__
    fn.__dict__.update(old.__dict__)
    return fn


def _restore(tree: Any, enclosing: tuple[types.FunctionType, ...]) -> Any:
    def restore(node: Any) -> Any:
        if isinstance(node, _Closure):
            return _rebuild(node, enclosing)
        if isinstance(node, _Enclosing):
            return enclosing[-1 - node.up]
        return node

    return jtu.tree_map(restore, tree, is_leaf=lambda x: isinstance(x, (_Closure, _Enclosing)))
