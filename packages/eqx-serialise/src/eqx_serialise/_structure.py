"""What a PyTree is besides its leaves: the classes of its nodes, their schemas, what is static in them."""

import dataclasses
import functools
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core

from ._names import leaf_name
from ._paths import joined
from ._python_values import SCALARS
from ._static_values import is_text, to_description

_UNSET = object()


@dataclass(frozen=True)
class Node:
    """The class of a node, by its own name, and its schema."""

    cls: str
    schema: int = 1


@dataclass(frozen=True)
class Structure:
    """The nodes of a PyTree by name, and what JSON can say of the values that are no leaves of a file."""

    nodes: dict[str, Node]
    static: dict[str, Any]


def structure(tree: Any) -> tuple[Structure, dict[str, type]]:
    """Return the structure of `tree`, to be written or to be compared; and the classes of its nodes, by name.

    Raises:
      TypeError: A class has a `__schema__` that is no integer of at least 1.
    """
    nodes: dict[str, Node] = {}
    classes: dict[str, type] = {}
    static: dict[str, Any] = {}
    for name, node, is_node in _walk(tree):
        if not is_text(name):
            continue  # Nothing that has this name is written, so nothing can be missed.
        if is_node:
            nodes[name] = Node(class_name(type(node)), schema_of(type(node)))
            classes[name] = type(node)
            static |= {joined(name, field): value for field, value in _static_fields(node)}
        elif (description := to_description(node)) is not None:
            static[name] = description
    return Structure(nodes, static), classes


def class_name(cls: type) -> str:
    """Return what a file calls a class: its name in the module, or in the function, that defines it."""
    name = "None" if cls is type(None) else cls.__qualname__.rpartition("<locals>.")[2]
    return name.encode("ascii", "backslashreplace").decode()


def schema_of(cls: type) -> int:
    """Return the schema that a class declares, by default 1.

    Raises:
      TypeError: It is no integer of at least 1.
    """
    schema = getattr(cls, "__schema__", 1)
    if type(schema) is not int or schema < 1:
        raise TypeError(
            f"`{class_name(cls)}.__schema__` must be an integer of at least 1; got `{schema!r:.40}`. "
            "Count the versions of the class from 1 on."
        )
    return schema


def _walk(tree: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield `(name, node, whether it is one)` for each node, and for each leaf that a file does not hold."""
    left = [((), tree)]
    while left:
        path, node = left.pop()
        # A pass over one level: all below the node is taken for leaves.
        pairs, _ = jtu.tree_flatten_with_path(node, is_leaf=functools.partial(operator.is_not, node))
        is_leaf = len(pairs) == 1 and pairs[0][0] == ()
        if not is_leaf or not _is_stored(node):
            yield leaf_name(path), node, not is_leaf
        if not is_leaf:
            left += [((*path, *key), child) for key, child in reversed(pairs) if not _is_stored(child)]


def _is_stored(leaf: Any) -> bool:
    return eqx_core.is_array(leaf) or type(leaf) in SCALARS or isinstance(leaf, jax.ShapeDtypeStruct)


def _static_fields(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the description of each static field: of Modules, and of JAX's own dataclasses."""
    for field in dataclasses.fields(node) if dataclasses.is_dataclass(node) else ():
        if field.metadata.get("static", False):
            value = getattr(node, field.name, _UNSET)
            description = None if value is _UNSET else to_description(value)
            if description is not None:
                yield field.name, description
