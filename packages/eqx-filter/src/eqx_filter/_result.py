"""Describe the result of an exported function so that another process can rebuild it from arrays."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.tree_util as jtu

import eqx_core.internal

from ._axes import short
from ._carry import Split
from ._jit_output import are_traceable

Result = list[Any]
"""Lists and strings, as JSON has them: the first says what it is.

`["array"]`, `["value", value]`, `["list", *results]`, `["tuple", *results]`, `["dict", keys, *results]`, or
`["like", name, paths]` for what has the structure of the argument of that name, which holds arrays at these paths.
"""

_VALUES = (bool, int, float, str, type(None))


def describe(out: Any, arguments: Mapping[str, Any], path: str = "out") -> Result:
    """Return the description of a result.

    Args:
      out: The result; its arrays are to be stored elsewhere.
      arguments: What the function has been called with, by name.
      path: What to call it.

    Raises:
      TypeError: It holds what cannot be described.
    """
    if are_traceable([out])[0]:
        return ["array"]
    if type(out) in _VALUES:
        return ["value", out]
    if type(out) in (list, tuple):
        return [type(out).__name__, *(describe(x, arguments, f"{path}[{i}]") for i, x in enumerate(out))]
    if type(out) is dict and all(type(key) is str for key in out):
        # Sorted, as JAX orders the arrays.
        keys = sorted(out)
        return ["dict", keys, *(describe(out[key], arguments, f"{path}[{key!r}]") for key in keys)]
    for name, value in arguments.items():
        if _alike(Split(out), Split(value)):
            leaves = jtu.tree_flatten_with_path(value)[0]
            traced = are_traceable([leaf for _, leaf in leaves])
            return ["like", name, [f"{name}{jtu.keystr(p)}" for (p, _), t in zip(leaves, traced, strict=True) if t]]
    raise TypeError(
        f"`filter_export(fun=...)` must return arrays, None, bools, ints, floats and strings, in lists, tuples and dicts "
        f"with strings as keys, or what is structured like one of its arguments; got {short(out)} at `{path}`. Return "
        f"the parts of it that you need, in a dict for example."
    )


def rebuild(result: Result, arrays: Iterator[Any], arguments: Mapping[str, Any] | None) -> Any:
    """Return the result with these arrays.

    Args:
      result: Its description.
      arrays: The arrays in it, in order.
      arguments: What the function has been called with, by name; None if that is not known. Then a dict of arrays by
        path stands for what is structured like an argument.
    """
    kind, *rest = result
    if kind == "array":
        return next(arrays)
    if kind == "value":
        return rest[0]
    if kind == "like":
        name, paths = rest
        own = [next(arrays) for _ in paths]
        return dict(zip(paths, own, strict=True)) if arguments is None else Split(arguments[name]).join(own)
    if kind == "dict":
        keys, *rest = rest
        return dict(zip(keys, [rebuild(x, arrays, arguments) for x in rest], strict=True))
    built = [rebuild(x, arrays, arguments) for x in rest]
    return tuple(built) if kind == "tuple" else built


def _alike(a: Split, b: Split) -> bool:
    typed_key = eqx_core.internal.typed_key
    return a.treedef == b.treedef and typed_key(a.rest) == typed_key(b.rest)
