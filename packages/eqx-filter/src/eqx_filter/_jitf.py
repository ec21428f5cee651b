"""Compile a function of which single leaves are traced, as the first release of Equinox did: `jitf`.

The new form is `filter_jit`, which traces the arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.tree_util as jtu
import numpy as np

import eqx_core

from ._axes import short
from ._filter_of_inputs import check_filter, passed, places
from ._jax_compat import hide_from_tracebacks
from ._jit import Jitted, filter_jit
from ._jit_cache import Call
from ._jit_output import are_traceable
from ._runtime_error import presented
from ._signature import Signature
from ._transform import Transformed

hide_from_tracebacks(__file__)


class JitF(Transformed):
    """What `jitf` returns."""

    jitted: Jitted
    filter_fn: Callable[[Any], Any] | None
    filter_tree: Any
    static_argnums: tuple[int, ...] = eqx_core.field(static=True)
    static_argnames: tuple[str, ...] = eqx_core.field(static=True)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.jitted.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        cache, signature = self.jitted._cache, self.jitted._signature
        args, kwargs = signature.arrange(args, kwargs)
        call = self.jitted.fun, args, kwargs
        program, arrays = cache.find_split(call, signature, _traced(self, call))
        try:
            return program(*arrays)()
        except Exception as error:
            failed = presented(error, program)
            if failed is None:
                raise
        try:
            raise failed
        finally:
            failed.__traceback__ = None  # As in `filter_jit`.


def jitf(
    fun: Callable[..., Any],
    *,
    filter_fn: Callable[[Any], Any] | None = None,
    filter_tree: Any = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    **jitkwargs: Any,
) -> JitF:
    """Return a compiled version of `fun`, traced in the leaves that a filter says.

    It is the form that the first release of Equinox had. A leaf of the arguments is traced where the filter says True
    and its argument is not static; all other leaves are static, and another value of one of them is another compilation.

    Args:
      fun: Any callable. Arrays that it holds itself are traced.
      filter_fn: A function from a leaf to a bool, called with every leaf of the arguments that are not static.
      filter_tree: Instead of that, a tree of bools of the structure of the argument that is not static, or a tuple of
        trees, one for each of these.
      static_argnums: Positional arguments that are static altogether.
      static_argnames: The same by name.
      **jitkwargs: As in `filter_jit`.

    Returns:
      A function of the same arguments, and of results that may be anything.

    Raises:
      ValueError: There is not exactly one of `filter_fn` and `filter_tree`, or `filter_jit` does not take an option; or
        on calling it, `filter_tree` has another structure.
      TypeError: On calling it: a leaf is to be traced that is no array or number, or an array is to be static.

    Example:
      >>> scale = eqx_filter.jitf(lambda x, by: x["a"] * by, filter_tree=({"a": True, "b": False}, True))
      >>> print(scale({"a": jnp.array(2.0), "b": "text"}, 3.0))
      6.0
    """
    check_filter("jitf", filter_fn, filter_tree)
    jitted = filter_jit(fun, **jitkwargs)
    numbers = tuple(static_argnums) if isinstance(static_argnums, Sequence) else (static_argnums,)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    return JitF(jitted, filter_fn, filter_tree, numbers, names)


def _traced(of: JitF, call: Call) -> tuple[bool, ...]:
    """Return for each leaf of a call whether it is traced."""
    fun, args, kwargs = call
    static = _static_places(of, args)
    dynamic = tuple(arg for i, arg in enumerate(args) if i not in static)
    by_name = {name: arg for name, arg in kwargs.items() if name not in of.static_argnames}
    if of.filter_fn is None and by_name:
        raise ValueError(
            f"`jitf(filter_tree=...)` is for arguments by position; got {', '.join(map(repr, by_name))} by name. Name "
            f"them in `static_argnames`, or use `filter_fn`."
        )
    bools = iter(passed("jitf", of.filter_fn, of.filter_tree, dynamic))
    by_position = tuple(_all_static(arg) if i in static else next(bools) for i, arg in enumerate(args))
    named = {name: _of_named(of, name, arg) for name, arg in kwargs.items()}
    inner = jtu.tree_leaves(fun)
    traced = (*are_traceable(inner), *jtu.tree_leaves((by_position, named)))
    _check_leaves(call, traced, len(inner), of.jitted._signature)
    return traced


def _static_places(of: JitF, args: tuple[Any, ...]) -> set[int]:
    names = [of.jitted._signature.describe((jtu.SequenceKey(1), jtu.SequenceKey(i))) for i in range(len(args))]
    by_name = {i for i, name in enumerate(names) if name in of.static_argnames}
    # An argument may be left to its default.
    numbers = [number for number in of.static_argnums if -len(args) <= number < len(args)]
    return by_name | set(places("jitf(static_argnums=...)", numbers, len(args)))


def _all_static(arg: Any) -> Any:
    return jtu.tree_map(lambda _: False, arg)


def _of_named(of: JitF, name: str, arg: Any) -> Any:
    if name in of.static_argnames or of.filter_fn is None:
        return _all_static(arg)
    return passed("jitf", of.filter_fn, None, (arg,))[0]


def _check_leaves(call: Call, traced: Sequence[bool], start: int, signature: Signature) -> None:
    """Raise an error where one of the leaves, from `start` on, cannot be what it shall be."""
    leaves = jtu.tree_leaves(call)
    for i in range(start, len(leaves)):
        leaf = leaves[i]
        if traced[i] and not (eqx_core.is_array(leaf) or isinstance(leaf, (int, float, complex, jax.core.Tracer))):
            must, advice = "be traced only if they are arrays or numbers", "Let the filter say False there."
        elif not traced[i] and isinstance(leaf, (jax.Array, np.ndarray)):
            must, advice = "be static only if they are no arrays", "Let the filter say True there."
        else:
            continue
        where = signature.describe(jtu.tree_flatten_with_path(call)[0][i][0])
        raise TypeError(f"Leaves of the arguments of `jitf(fun)` can {must}; got {short(leaf)} at `{where}`. {advice}")
