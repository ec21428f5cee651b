"""Find out what a function of anything returns without running it: `filter_eval_shape`."""

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from ._are_arrays import are_arrays
from ._jax_compat import hide_from_tracebacks, trace_context
from ._jit_output import Output, pack

hide_from_tracebacks(__file__)


def filter_eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what `fun(*args, **kwargs)` would, with a `jax.ShapeDtypeStruct` for each array.

    Nothing is computed and no memory taken, so it also makes the skeleton of a model that is too large to build here.

    Args:
      fun: Any callable, for example the class of a model.
      *args: Its arguments. In them and in `fun`, arrays and `jax.ShapeDtypeStruct`s alike stand for arrays; all else
        is passed on as it is.
      **kwargs: Likewise.

    Returns:
      What `fun` returns, with whatever is no array as it is.

    Example:
      >>> model = eqx_filter.filter_eval_shape(lambda key: {"weight": jr.normal(key, (2, 3)), "name": "a"}, jr.key(0))
      >>> model["weight"].shape, model["name"]
      ((2, 3), 'a')
    """
    __tracebackhide__ = True
    return jax.eval_shape(*split_call(*jtu.tree_flatten((fun, args, kwargs))))()


def split_call(leaves: list[Any], treedef: Any) -> tuple[Callable[[list[Any]], Output], list[Any]]:
    """Return what JAX can trace of a call: a function of arrays, and these.

    Args:
      leaves: Those of the triple of the callable, its arguments and its keyword arguments.
      treedef: The structure of the triple.
    """
    where = [i for i, abstract in enumerate(_are_abstract(leaves)) if abstract]

    def call(arrays: list[Any]) -> Output:
        __tracebackhide__ = True
        given = leaves.copy()
        for i, array in zip(where, arrays, strict=True):
            given[i] = array
        fun, args, kwargs = treedef.unflatten(given)
        return pack(fun(*args, **kwargs))

    return call, [leaves[i] for i in where]


def _are_abstract(leaves: list[Any]) -> list[bool]:
    """Tell which leaves stand for arrays: arrays themselves and `jax.ShapeDtypeStruct`s."""
    arrays = are_arrays(leaves)
    return [a or isinstance(leaf, jax.ShapeDtypeStruct) for a, leaf in zip(arrays, leaves, strict=True)]


_LIMIT = 4096
_KNOWN: dict[Hashable, Output] = {}
eqx_core.internal.register_cache(_KNOWN.clear)


def cached_filter_eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what `filter_eval_shape` does, and remember it.

    Only the shapes and dtypes of arrays count, and the values and types of all else, those in `fun` included: each
    `lambda` is another function. `eqx_core.clear_caches` forgets.

    Args:
      fun: Any callable.
      *args: Its arguments.
      **kwargs: Likewise.

    Example:
      >>> from eqx_filter.internal import cached_filter_eval_shape
      >>> cached_filter_eval_shape(jnp.sum, jnp.ones(3)).shape
      ()
    """
    __tracebackhide__ = True
    leaves, treedef = jtu.tree_flatten((fun, args, kwargs))
    key = trace_context(), treedef, *map(type_or_value, leaves)
    known = _KNOWN.get(key)
    if known is None:
        known = jax.eval_shape(*split_call(leaves, treedef))
        if len(_KNOWN) >= _LIMIT:
            # Each entry keeps its function alive, so there cannot be ever more.
            _KNOWN.clear()
        _KNOWN[key] = known
    return known()


def type_or_value(leaf: Any) -> Hashable:
    """Return what of a leaf decides about a trace: of an array shape, dtype and the like, of all else the value."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return jax.typeof(leaf) if eqx_core.is_array(leaf) else eqx_core.internal.typed_key(leaf)
