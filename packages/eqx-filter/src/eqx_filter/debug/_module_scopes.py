"""Write into a program which Module has called each operation: `with_module_scopes`."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from .._jax_compat import hide_from_tracebacks
from .._transform import Transformed
from ._backward_equations import Scopes
from ._marked import Mark, Path, marked, methods_of, nodes

hide_from_tracebacks(__file__)

_PREFIX = "module:"
_WRAPPERS = (Transformed, eqx_core.internal.BoundMethod, eqx_core.Partial)


@dataclasses.dataclass(frozen=True)
class _Scope:
    """Names what goes on in a call.

    Attributes:
      key: What two of them are compared by.
      name: The way to the Module from the arguments.
    """

    key: str
    name: str = dataclasses.field(compare=False)

    def __call__(self, call: Callable[[], Any]) -> Any:
        with jax.named_scope(_PREFIX + self.name):
            return call()


def with_module_scopes(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, alike: bool) -> Any:
    """Return a callable, arguments and keyword arguments, in which the Modules name what their methods do.

    Args:
      fn: A callable.
      args: Its arguments.
      kwargs: Its keyword arguments.
      alike: Whether a model, its gradient and the moments of an optimiser still have one structure, so that they can be
        added up. What is compiled once for the same parts of two models then bears the name of the first.
    """
    call = (fn, args, kwargs)
    name, everything = naming(fn), dict(nodes(call))
    marks: dict[Path, dict[str, Mark]] = {}
    roots: list[Path] = []
    for path, node in everything.items():
        if not isinstance(node, eqx_core.Module) or isinstance(node, _WRAPPERS):
            continue
        root = next((root for root in roots if path[: len(root)] == root), None)
        if root is None:
            # The layers of a list are not alike, so the way starts at the list.
            root = path[:-1] if isinstance(everything[path[:-1]], list) else path
            roots.append(root)
        scope = _Scope(jtu.keystr(path[len(root) :]) if alike else name(path), name(path))
        found: dict[str, Mark] = dict.fromkeys(methods_of(type(node)), scope)
        if found:
            marks[path] = found
    return marked(call, marks)


def naming(fn: Any) -> Callable[[Path], str]:
    """Return how the user would write a place in the PyTree `(fn, args, kwargs)`."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

    def name(path: Path) -> str:
        (part, *rest), node = path, fn
        if part.idx == 0:
            while rest and isinstance(node, _WRAPPERS) and rest[0].name in ("fun", "func", "__self__"):
                node = getattr(node, rest.pop(0).name)
            return f"fn{jtu.keystr(tuple(rest))}"
        key = rest.pop(0)
        if part.idx == 2:
            return f"{key.key}{jtu.keystr(tuple(rest))}"
        return f"{names[key.idx] if key.idx < len(names) else f'args[{key.idx}]'}{jtu.keystr(tuple(rest))}"

    return name


def module_of(scopes: Scopes) -> str | None:
    """Return the name of the innermost Module around an operation."""
    names = [name.removeprefix(_PREFIX) for name, transform in scopes if not transform and name.startswith(_PREFIX)]
    return names[-1] if names else None
