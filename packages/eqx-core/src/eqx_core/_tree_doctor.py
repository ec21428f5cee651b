"""Find what is wrong with a model before training shows it: `tree_doctor`."""

import dataclasses
import functools
import types
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._findings import Finding, Findings, short
from ._hidden_arrays import hidden_arrays
from ._is_array import is_array
from ._keyed_children import keyed_children
from ._module import BoundMethod, Module
from ._module._field import is_static

_SHOWN = 3


class Diagnosis(Findings):
    """What `tree_doctor` returns: a tuple of `Finding`s, empty and so false if the model is well."""

    __slots__ = ()
    nothing: ClassVar[str] = "Nothing found."

    def __repr__(self) -> str:
        return f"Diagnosis({len(self)} findings)"


def tree_doctor(model: Any, *, quiet: bool = False) -> Diagnosis:
    """Print and return what in a model is probably not meant, by key path.

    The kinds of findings are:

    * "hidden": arrays inside of a function, a `functools.partial`, a JAX-transformed callable or an object that is no PyTree.
      They are constants to JAX: they get no gradient and no update, and are not saved.
    * "static array": an array in a static field, where it is part of the structure.
    * "same array", "shared": one array, or one layer, at two places. They are two after the first update.
    * "cycle", "bound method": a node that contains itself, also by way of a method of its own.
    * "number": a Python float or complex as a leaf. It is never trained.
    * "key": a stored PRNG key. Each call draws the same numbers from it.

    Args:
      model: Any PyTree. Nothing in it is changed or computed with.
      quiet: True to print nothing.

    Returns:
      A tuple of findings, each with `path`, `kind` and `message`, in the order of the tree.

    Example:
      >>> def scaling(by):
      ...     return lambda x: by * x
      >>> findings = tree_doctor({"layer": scaling(jnp.ones(3)), "scale": 2.0}, quiet=True)
      >>> [(finding.path, finding.kind) for finding in findings]
      [("['layer']", 'hidden'), ("['scale']", 'number')]
    """
    diagnosis = Diagnosis(_Examination().node(model, ()))
    if not quiet:
        print(diagnosis)
    return diagnosis


class _Examination:
    """One walk over a tree, with what it has met: the nodes above, and the nodes and arrays that it is done with."""

    def __init__(self) -> None:
        # Objects are kept beside their paths: an id is unique only among living objects.
        self.above: dict[int, jtu.KeyPath] = {}
        self.done: dict[int, tuple[Any, jtu.KeyPath]] = {}
        self.leaves = 0

    def node(self, node: Any, path: jtu.KeyPath) -> Iterator[Finding]:
        if id(node) in self.above:
            yield _finding(path, "cycle", f"is {_at(self.above[id(node)])} again, which contains it. {_BREAK}")
            return
        if id(node) in self.done:
            self.leaves += 1
            yield _repeated(node, path, self.done[id(node)][1])
            return
        children = keyed_children(node)
        if children is None:
            self.leaves += 1
            yield from self.leaf(node, path)
            return
        if isinstance(node, BoundMethod) and id(node.__self__) in self.above:
            yield _method_of(node, path, self.above[id(node.__self__)])
            return
        before = self.leaves
        self.above[id(node)] = path
        yield from _static_findings(node, path)
        for key, child in children:
            yield from self.node(child, (*path, key))
        del self.above[id(node)]
        if self.leaves > before:
            self.done[id(node)] = node, path

    def leaf(self, leaf: Any, path: jtu.KeyPath) -> Iterator[Finding]:
        if isinstance(leaf, types.MethodType) and id(leaf.__self__) in self.above:
            yield _method_of(leaf, path, self.above[id(leaf.__self__)])
        elif is_array(leaf):
            if isinstance(leaf, (jax.Array, np.ndarray)):
                self.done[id(leaf)] = leaf, path
            if _is_key(leaf, path):
                yield _finding(path, "key", f"{short(leaf)} is a PRNG key. {_PASS_KEY}")
        elif type(leaf) in (float, complex):
            yield _finding(path, "number", f"{leaf!r} is no array, so it is never trained. {_USE_ARRAY}")
        else:
            yield from _hidden(leaf, path)


_BREAK = "It cannot be flattened: leave it out and use `self`."
_PASS_KEY = "Each call draws the same numbers from it: leave it out and pass `key` to `__call__`."
_USE_ARRAY = "Use `field(converter=jnp.asarray)` for a parameter, `field(static=True)` for a constant."
_ONCE = "They are two copies after the first update: keep it at one place and reach it from there."


def _finding(path: jtu.KeyPath, kind: str, message: str) -> Finding:
    return Finding(jtu.keystr(path), kind, message)


def _at(path: jtu.KeyPath) -> str:
    return f"`{jtu.keystr(path)}`" if path else "the root"


def _repeated(node: Any, path: jtu.KeyPath, first: jtu.KeyPath) -> Finding:
    if is_array(node):
        return _finding(path, "same array", f"{short(node)} is also at {_at(first)}. {_ONCE}")
    return _finding(path, "shared", f"this {type(node).__name__} is also at {_at(first)}. {_ONCE}")


def _method_of(method: Any, path: jtu.KeyPath, owner: jtu.KeyPath) -> Finding:
    name = method.__func__.__name__
    text = f"is the method `{name}` of {_at(owner)}, which contains it. Call `self.{name}` where it is needed."
    return _finding(path, "bound method", text)


def _is_key(array: Any, path: jtu.KeyPath) -> bool:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return True
    # A key of the old style is an array like any other but for its name.
    name = jtu.keystr(path[-1:]).lower()
    return array.dtype == np.uint32 and array.shape[-1:] == (2,) and ("key" in name or "rng" in name)


def _static_findings(node: Any, path: jtu.KeyPath) -> Iterator[Finding]:
    """Look at what a node holds beside its children."""
    if isinstance(node, jtu.Partial):
        yield from _hidden(node.func, (*path, jtu.GetAttrKey("func")))
    if not isinstance(node, Module):
        return
    for field in filter(is_static, dataclasses.fields(node)):
        here = (*path, jtu.GetAttrKey(field.name))
        for below, value in jtu.tree_flatten_with_path(getattr(node, field.name, None))[0]:
            if is_array(value):
                text = f"{short(value)} is in a static field: not trained, and compared at each call. Leave out `static=True`."
                yield _finding((*here, *below), "static array", text)
            else:
                yield from _hidden(value, (*here, *below))


def _hidden(leaf: Any, path: jtu.KeyPath) -> Iterator[Finding]:
    found = list(hidden_arrays(leaf))
    if not found:
        return
    shown = ", ".join(f"{short(array)} at `{where.removeprefix('.')}`" for where, array in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    text = f"{short(leaf)} hides {shown}{more} from JAX. {_advice(leaf)}"
    yield _finding(path, "hidden", text)


def _advice(leaf: Any) -> str:
    if isinstance(leaf, functools.partial):
        return "Use `eqx_core.Partial` instead of `functools.partial`."
    if hasattr(leaf, "__wrapped__"):
        return "Store what it wraps, and transform it where it is called."
    if isinstance(leaf, (types.FunctionType, types.MethodType)):
        return "Store these arrays, or the layer that holds them, in a field, and use them in a method."
    return f"Make `{type(leaf).__name__}` a Module."
