"""Say what went wrong in `tree_at`, where in the tree, and what was there."""

from collections.abc import Callable, Iterator
from typing import Any

import jax.tree_util as jtu

from ._short import short


def one_of_two(got: str) -> ValueError:
    return ValueError(
        f"`tree_at(replace=..., replace_fn=...)` must be given exactly one of the two; got {got}. Pass the new value as"
        " `replace`, or a function from the old value to the new one as `replace_fn`."
    )


def no_length(replace: Any, count: int) -> TypeError:
    return TypeError(
        f"`tree_at(replace=...)` must be a sequence of {count} when `where` returns a sequence; got {short(replace)}, which has"
        " no length. Write one replacement for each node, in a tuple or list."
    )


def wrong_length(got: int, count: int) -> ValueError:
    return ValueError(
        f"`tree_at(replace=...)` must have the length of the sequence that `where` returns, {count}; got {got}. Write one"
        " replacement for each node, in the same order."
    )


def depends_on_values() -> ValueError:
    return ValueError(
        "`tree_at(where=...)` must use only the structure of `pytree`; got another answer when the leaves were exchanged for"
        " placeholders. Do not let it depend on the values or types of leaves: decide before, and pass a `where` that names"
        " the place."
    )


def not_in_tree(part: Any, position: int | None) -> TypeError | ValueError:
    """Return a TypeError for what can be no node, like a number, and a ValueError for a container."""
    kind = TypeError if jtu.all_leaves([part]) else ValueError
    at = "" if position is None else f" at position {position}"
    return kind(
        f"`tree_at(where=...)` must return a node or leaf of `pytree`, or a tuple or list of them; got {short(part)}{at}, which"
        " is not in it. Return parts as they are: constants, static fields and newly made values are not parts."
    )


def twice(marked: Any, parts: list[Any]) -> ValueError:
    part = next(part for k, part in enumerate(parts) if any(part is other for other in parts[:k]))
    return ValueError(
        f"`tree_at(where=...)` must return each part once; got {path_to(marked, part)} twice. Remove one of the two: they would"
        " overwrite each other."
    )


def not_unique(part: Any) -> ValueError:
    return ValueError(
        f"`tree_at(where=...)` must uniquely identify each part; got {short(part)}, which is in `pytree` more than once. For"
        " None, pass `is_leaf=lambda x: x is None`; for another object without leaves, replace the node that holds it."
    )


def below_another(marked: Any, part: Any, parts: list[Any]) -> ValueError | None:
    """Return an error if `part` is a descendant of another of the parts."""
    for other in parts:
        below = jtu.tree_leaves(other, is_leaf=lambda x: x is part)
        if other is not part and any(x is part for x in below):
            return ValueError(
                f"`tree_at(where=...)` must return separate parts; got {path_to(marked, other)} together with"
                f" {path_to(marked, part)} inside it. Replace the outer one, and put the inner one into the replacement."
            )
    return None


def check_alike(marked: Any, part: Any, old: Any, new: Any, is_leaf: Callable[[Any], bool] | None) -> None:
    """Raise a ValueError unless `new` has the structure, shapes and dtypes of `old`, which is at the place of `part`."""
    before, structure = jtu.tree_flatten_with_path(old, is_leaf=is_leaf)
    after, new_structure = jtu.tree_flatten(new, is_leaf=is_leaf)
    if structure != new_structure:
        raise ValueError(
            f"`tree_at(..., check=True)` must keep the structure at {path_to(marked, part)}; got {short(new)} for {short(old)}."
            " To change it, leave out `check`."
        )
    for (below, x), y in zip(before, after, strict=True):
        if _array_kind(x) != _array_kind(y):
            inner = f" (`{jtu.keystr(below)}` in it)" if below else ""
            raise ValueError(
                f"`tree_at(..., check=True)` must keep the shape and dtype at {path_to(marked, part)}{inner}; got {short(y)}"
                f" for {short(x)}. To change it, leave out `check`."
            )


def _array_kind(x: Any) -> tuple[Any, Any]:
    return getattr(x, "shape", None), getattr(x, "dtype", None)


def path_to(tree: Any, node: Any) -> str:
    """Write where `node`, an object that is in `tree` once, is."""
    entries, _ = jtu.tree_flatten_with_path(tree, is_leaf=lambda x: x is node)
    return name_of(next((jtu.keystr(path) for path, x in entries if x is node), ""))


def name_of(path: str) -> str:
    return f"`{path}`" if path else "the root"


def explained(where: Callable[[Any], Any], tree: Any, reveal: Callable[[Any], Any]) -> Any:
    """Return `where(tree)`. If that raises, let the error also say where in the tree it happened and what was there."""
    try:
        return where(tree)
    except Exception as error:
        trail = _Trail(tree, "", [])
        try:
            where(trail)
        except Exception as again:
            # An error of another type comes from the trail, which is no real node, and would mislead.
            if type(again) is type(error):
                error.add_note(_note(trail, reveal))
        raise


def _note(trail: "_Trail", reveal: Callable[[Any], Any]) -> str:
    path, node, tried = trail._trail_last
    it = "a leaf" if jtu.all_leaves([node]) else "a node"
    at = f"at {name_of(path)}, where there is {it}, {short(jtu.tree_map(reveal, node))}"
    step = f": it has no `{tried}`" if tried else ""
    return (
        f"`tree_at(where=...)` went wrong {at}{step}. `where` must only select: placeholders stand for the leaves, and to"
        " compute with a leaf is the task of `replace_fn`."
    )


class _Trail:
    """Stand in for a node and remember how it was reached, and what was tried there last."""

    __slots__ = ("_trail_last", "_trail_node", "_trail_path")

    def __init__(self, node: Any, path: str, last: list[Any]) -> None:
        self._trail_node, self._trail_path, self._trail_last = node, path, last
        last[:] = [path, node, ""]

    def _trail_step(self, step: str, take: Callable[[Any], Any]) -> "_Trail":
        self._trail_last[:] = [self._trail_path, self._trail_node, step]
        return _Trail(take(self._trail_node), self._trail_path + step, self._trail_last)

    def __getattr__(self, name: str) -> "_Trail":
        return self._trail_step(f".{name}", lambda node: getattr(node, name))

    def __getitem__(self, key: Any) -> "_Trail":
        return self._trail_step(f"[{key!r}]", lambda node: node[key])

    def __call__(self, *args: Any, **kwargs: Any) -> "_Trail":
        return self._trail_step("()", lambda node: node(*args, **kwargs))

    def __len__(self) -> int:
        return len(self._trail_node)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self._trail_node, (tuple, list)):
            return (self[i] for i in range(len(self._trail_node)))
        return iter(self._trail_node)
