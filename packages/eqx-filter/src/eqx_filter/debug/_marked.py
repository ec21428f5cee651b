"""Put something around the calls of the parts of a model, wherever the model goes: `marked`."""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from .._jax_compat import hide_from_tracebacks

hide_from_tracebacks(__file__)

Path = tuple[Any, ...]
"""Keys of JAX, from the root of a PyTree to a node."""

Mark = Callable[[Callable[[], Any]], Any]
"""What is put around a call: given the call without arguments, it returns the result.

It is static data of a Module, so it must be hashable, and equal to another one if the same trace will do for both.
"""

_FIELD = "_eqx_marks"


def nodes(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the path and the value of each node of a PyTree, leaves included, parents first."""
    yield path, tree
    for key, child in _children(tree)[0]:
        yield from nodes(child, (*path, *key))


def marked(tree: Any, marks: Mapping[Path, Mapping[str, Mark]]) -> Any:
    """Return a copy of a PyTree in which the parts at some paths have marks around their calls.

    A Module so marked is an instance of a subclass of its class that has its fields, so that whatever else is done with
    it goes on as before. The marks stay with it through transformations. What is no Module is wrapped in one.

    Args:
      tree: Any PyTree.
      marks: For each path, what to put around which method; `"__call__"` alone for what is no Module.
    """
    above = {path[:i] for path in marks for i in range(len(path))}
    return _marked(tree, (), marks, above)


def _children(node: Any) -> tuple[list[tuple[Path, Any]], Any]:
    """Return what is right below a node, and how to put it together again; nothing below a leaf."""
    children, treedef = jtu.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    return ([], treedef) if jtu.treedef_is_leaf(treedef) else (children, treedef)


def _marked(node: Any, path: Path, marks: Mapping[Path, Mapping[str, Mark]], above: set[Path]) -> Any:
    if path in above:
        children, treedef = _children(node)
        node = treedef.unflatten([_marked(child, (*path, *key), marks, above) for key, child in children])
    here = marks.get(path)
    if not here:
        return node
    return _marked_module(node, here) if isinstance(node, eqx_core.Module) else _MarkedFunction(node, here["__call__"])


def _marked_module(module: Any, marks: Mapping[str, Mark]) -> Any:
    kind, before = type(module), vars(module).get(_FIELD, ())
    # What has marks already gets more of them around, not another class on top.
    base = kind.__mro__[1] if before else kind
    together = (*before, *sorted(marks.items()))
    copy = object.__new__(_subclass(base, tuple(sorted({name for name, _ in together}))))
    vars(copy).update(vars(module))
    vars(copy)[_FIELD] = together
    return copy


class _MarkedFunction(eqx_core.Module):
    """A callable that is no Module, with a mark around its calls."""

    fun: Callable[..., Any]
    mark: Mark = eqx_core.field(static=True)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __getattr__(self, name: str) -> Any:
        if name in {"fun", "mark"}:  # Not there yet while a copy is being made.
            raise AttributeError(name)
        return getattr(self.fun, name)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.mark(functools.partial(self.fun, *args, **kwargs))


@functools.cache
def _subclass(cls: type, methods: tuple[str, ...]) -> type:
    """Return a subclass whose instances have their marks around the calls of these methods."""
    namespace: dict[str, Any] = {name: _around(cls, name) for name in methods}
    namespace |= {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    namespace["__annotations__"] = {_FIELD: Any}
    namespace[_FIELD] = eqx_core.field(static=True, default=(), repr=False)
    if "__init__" in cls.__dict__:
        # So that a `__post_init__` beside it is no reason to warn again.
        namespace["__init__"] = cls.__dict__["__init__"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return type(cls)(cls.__name__, (cls,), namespace)


eqx_core.internal.register_cache(_subclass.cache_clear)


def _around(cls: type, name: str) -> Callable[..., Any]:
    method = getattr(cls, name)

    @functools.wraps(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        run = functools.partial(method, self, *args, **kwargs)
        for marked_name, mark in vars(self)[_FIELD]:
            if marked_name == name:
                run = functools.partial(mark, run)
        return run()

    return call


def methods_of(cls: type) -> list[str]:
    """Return the names of the methods that a Module class or its bases define: `__call__`, and all that are no dunders."""
    bases = cls.__mro__[: cls.__mro__.index(eqx_core.Module)]
    names = dict.fromkeys(name for base in bases for name in vars(base))
    return [name for name in names if is_method(cls, name)]


def is_method(cls: type, name: str) -> bool:
    """Tell whether a name of a Module class is that of a method that gets the instance, and is no dunder but `__call__`."""
    if (name.startswith("__") and name != "__call__") or name in {field.name for field in dataclasses.fields(cls)}:
        return False
    found = inspect.getattr_static(cls, name, None)
    if found is None or isinstance(found, (type, staticmethod, classmethod, property)):
        return False
    return hasattr(type(found), "__get__") and callable(getattr(cls, name, None))
