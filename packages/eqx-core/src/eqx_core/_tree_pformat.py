"""Print PyTrees: arrays by dtype and shape, everything else as a formatter would lay it out."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np
import wadler_lindig as wl

from ._quick_layout import quick_layout


def _never(_: Any) -> bool:
    return False


def tree_pformat(
    pytree: Any,
    *,
    width: int = 80,
    indent: int = 2,
    short_arrays: bool = True,
    struct_as_array: bool = False,
    truncate_leaf: Callable[[Any], bool] = _never,
) -> str:
    """Format `pytree` as text of at most `width` columns where that is possible.

    Fields of a dataclass that hold their default are left out. An object can choose its own text by a method
    `__pdoc__(**kwargs)` that returns a `wadler_lindig` document.

    Args:
      pytree: Any object.
      width: Columns. Text without a place to break may be longer.
      indent: Columns by which nested lines are moved to the right, at least 0.
      short_arrays: Whether to write `f32[3,4]` for a JAX array, `weak_i32[]` for a weakly typed one and `i64[3](numpy)` for
        a NumPy array. Otherwise their `repr` is written.
      struct_as_array: Whether to write a `jax.ShapeDtypeStruct` as if it were a JAX array. Needs `short_arrays`.
      truncate_leaf: A function that is called on every object; where it is true, `ClassName(...)` is written.

    Returns:
      The text. Something that contains itself is written `<recursive>`.

    Example:
      >>> import numpy as np
      >>> tree_pformat({"weight": np.zeros((3, 4), np.float32), "act": abs})
      "{'weight': f32[3,4](numpy), 'act': <built-in function abs>}"
    """
    custom = TreeWLCustom(truncate_leaf, short_arrays, struct_as_array, indent=indent)
    text = quick_layout(
        pytree,
        width=width,
        indent=indent,
        custom=custom,
        truncate=None if truncate_leaf is _never else truncate_leaf,
        short_arrays=short_arrays,
        seen_ids=custom.seen_ids,
    )
    if text is None:
        text = wl.pformat(
            pytree, width=width, indent=indent, short_arrays=short_arrays, custom=custom, seen_ids=custom.seen_ids
        )
    return text


def tree_pprint(
    pytree: Any,
    *,
    width: int = 80,
    indent: int = 2,
    short_arrays: bool = True,
    struct_as_array: bool = False,
    truncate_leaf: Callable[[Any], bool] = _never,
) -> None:
    """Print `pytree` to standard output. The arguments are those of `tree_pformat`.

    Example:
      >>> tree_pprint([1, (2, 3)], width=8)
      [
        1,
        (2, 3)
      ]
    """
    print(
        tree_pformat(
            pytree,
            width=width,
            indent=indent,
            short_arrays=short_arrays,
            struct_as_array=struct_as_array,
            truncate_leaf=truncate_leaf,
        )
    )


@dataclasses.dataclass(frozen=True)
class TreeWLCustom:
    """Tell the `wadler_lindig` printer how to write what it does not know: pass it as `wadler_lindig.pformat(custom=...)`.

    Calling it on an object returns a document, or None for what the printer should write in its own way. The rules, first
    match wins: what `truncate_leaf` accepts is `ClassName(...)`; JAX arrays (with `struct_as_array` their shape structs too)
    are `f32[3,4]`; `jax.custom_jvp` and `jax.custom_vjp` objects are written as the function they wrap;
    `jax.tree_util.Partial` is written like a dataclass.

    Args:
      truncate_leaf: Called on every object.
      short_arrays: Whether the rule for arrays applies.
      struct_as_array: Whether `jax.ShapeDtypeStruct` counts as an array.
      indent: Columns by which the arguments of a Partial are indented, as passed to `wadler_lindig.pformat`.
      seen_ids: The ids of the objects that are being written. Pass the same set to `wadler_lindig.pformat(seen_ids=...)`, so
        that a Partial which contains itself is found at once.

    Example:
      >>> import wadler_lindig
      >>> custom = TreeWLCustom(lambda x: x == 3, short_arrays=True, struct_as_array=False)
      >>> wadler_lindig.pformat([3, 4], custom=custom)
      '[int(...), 4]'
    """

    truncate_leaf: Callable[[Any], bool]
    short_arrays: bool
    struct_as_array: bool
    indent: int = dataclasses.field(default=2, kw_only=True)
    seen_ids: set[int] = dataclasses.field(default_factory=set, kw_only=True, repr=False, compare=False)

    def __call__(self, obj: Any) -> wl.AbstractDoc | None:
        if self.truncate_leaf(obj):
            return wl.TextDoc(f"{type(obj).__name__}(...)")
        if self.short_arrays:
            is_jax = isinstance(obj, jax.Array) or (self.struct_as_array and isinstance(obj, jax.ShapeDtypeStruct))
            if is_jax or isinstance(obj, np.ndarray):
                return _array_doc(obj, is_jax)
        if isinstance(obj, (jax.custom_jvp, jax.custom_vjp)):
            return self._doc(obj.__wrapped__)
        if isinstance(obj, jtu.Partial):
            return self._partial_doc(obj)
        return None

    def _doc(self, obj: Any) -> wl.AbstractDoc:
        return wl.pdoc(obj, self.indent, self.short_arrays, self, seen_ids=self.seen_ids)

    def _partial_doc(self, obj: jtu.Partial) -> wl.AbstractDoc:
        # The printer knows that it is writing `obj`, but may have been given another set than ours.
        new = {id(obj)} - self.seen_ids
        self.seen_ids.update(new)
        try:
            parts = {"func": obj.func, "args": obj.args, "keywords": obj.keywords}
            docs: list[wl.AbstractDoc] = [wl.TextDoc(f"{name}=") + self._doc(part) for name, part in parts.items()]
        finally:
            self.seen_ids.difference_update(new)
        return wl.bracketed(wl.TextDoc("Partial("), docs, wl.comma, wl.TextDoc(")"), self.indent)


def _array_doc(array: Any, is_jax: bool) -> wl.AbstractDoc:
    weak = "weak_" if is_jax and getattr(array, "weak_type", False) else ""
    return wl.TextDoc(weak + wl.array_summary(array.shape, str(array.dtype), None if is_jax else "numpy").text)
