"""Write what of a PyTree is no array as text, the same in every process."""

import dataclasses
import enum
from collections.abc import Iterator
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np

import eqx_core

_LITERALS = (bool, int, float, complex, str, bytes, type(None), np.dtype, enum.Enum)


def static_texts(path: str, node: Any) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each leaf that is no array, and of each static field of a Module.

    Args:
      path: What to call `node`.
      node: Any PyTree.

    Example:
      >>> dict(static_texts("x", [np.ones(2), 1, {"a": len}]))
      {'x[1]': '1', "x[2]['a']": 'len'}
    """
    if isinstance(node, eqx_core.Module):
        for field in dataclasses.fields(node):
            if field.metadata.get("static", False) and hasattr(node, field.name):
                yield f"{path}.{field.name}", static_text(getattr(node, field.name))

    def is_module_below(x: Any) -> bool:
        return x is not node and isinstance(x, eqx_core.Module)

    for keys, leaf in jtu.tree_flatten_with_path(node, is_leaf=is_module_below)[0]:
        here = f"{path}{jtu.keystr(keys)}"
        if is_module_below(leaf):
            yield from static_texts(here, leaf)
        elif not (eqx_core.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)):
            yield here, static_text(leaf)


def static_text(value: Any) -> str:
    """Return a literal as Python writes it, a function or a class by its name, anything else by its type."""
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}({', '.join(map(static_text, value))})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{static_text(k)}: {static_text(v)}' for k, v in value.items())})"
    if isinstance(value, _LITERALS):
        return repr(value)
    return str(getattr(value, "__name__", type(value).__qualname__))
