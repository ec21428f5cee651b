"""Make what a function closes over visible: `filter_closure_convert`."""

import types
from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from ._eval_shape import filter_eval_shape
from ._jax_compat import eval_jaxpr, hide_from_tracebacks
from ._make_jaxpr import filter_make_jaxpr
from ._partition import combine, partition

hide_from_tracebacks(__file__)

# The leaves of a PyTree and its structure: stored so, two of them are compared leaf by leaf.
_Flat = tuple[tuple[Any, ...], jtu.PyTreeDef]


class _TrivialClosureConvert(eqx_core.Module):
    """A function that closes over nothing, with the check of its arguments.

    Attributes:
      fn: The function.
      in_dynamic_struct: What stands for arrays in `(args, kwargs)`.
      in_static: The rest of `(args, kwargs)`.
    """

    fn: Callable[..., Any]
    in_dynamic_struct: _Flat = eqx_core.field(static=True)
    in_static: _Flat = eqx_core.field(static=True)

    @property
    def in_struct(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The example arguments, `(args, kwargs)`, with a `jax.ShapeDtypeStruct` for each array."""
        return _join(self.in_dynamic_struct, self.in_static)

    @property
    def out_struct(self) -> Any:
        """What the function returns, with a `jax.ShapeDtypeStruct` for each array."""
        args, kwargs = self.in_struct
        return filter_eval_shape(self.fn, *args, **kwargs)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        _arrays_of_call(self, args, kwargs)
        return self.fn(*args, **kwargs)


class _ClosureConvert(eqx_core.Module):
    """A function as its jaxpr and the arrays it closed over.

    Attributes:
      jaxpr: The open jaxpr. It is a leaf, so that whoever looks for jaxprs in the parameters of a primitive finds it.
      consts: The very arrays that the function closed over.
      in_dynamic_struct: What stands for arrays in `(args, kwargs)`.
      out_dynamic_struct: What stands for arrays in the result.
      in_static: The rest of `(args, kwargs)`.
      out_static: The rest of the result.
    """

    jaxpr: Any
    consts: list[Any]
    in_dynamic_struct: _Flat = eqx_core.field(static=True)
    out_dynamic_struct: _Flat = eqx_core.field(static=True)
    in_static: _Flat = eqx_core.field(static=True)
    out_static: _Flat = eqx_core.field(static=True)

    @property
    def in_struct(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The example arguments, `(args, kwargs)`, with a `jax.ShapeDtypeStruct` for each array."""
        return _join(self.in_dynamic_struct, self.in_static)

    @property
    def out_struct(self) -> Any:
        """What the function returns, with a `jax.ShapeDtypeStruct` for each array."""
        return _join(self.out_dynamic_struct, self.out_static)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        arrays = _arrays_of_call(self, args, kwargs)
        out = eval_jaxpr(self.jaxpr, self.consts, *arrays)
        return _join((tuple(out), self.out_dynamic_struct[1]), self.out_static)


def filter_closure_convert(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return `fn` as a Module whose leaves are the arrays that it closes over.

    A closure hides them; as leaves they can be differentiated, batched and passed to a primitive.

    Args:
      fn: Any callable.
      *args: Examples of its arguments: arrays, or `jax.ShapeDtypeStruct`s for them. All else, Python numbers included,
        is static.
      **kwargs: Likewise.

    Returns:
      A callable Module, to be called with arguments like the examples. It has the properties `in_struct`, the pair of
      example arguments, and `out_struct`, the result, each with `jax.ShapeDtypeStruct`s for the arrays.

    Raises:
      ValueError: On calling it: the shape or dtype of an array, another argument or the structure is not as in the
        examples. Whether a dtype is weak does not count.

    Example:
      >>> def scale_by(weight):
      ...     return eqx_filter.filter_closure_convert(lambda x: weight * x, jnp.array(3.0))
      >>> scale = scale_by(jnp.array(2.0))
      >>> print(scale.consts[0], scale(jnp.array(5.0)))
      2.0 10.0
    """
    __tracebackhide__ = True
    in_dynamic, in_static = _split((args, kwargs))
    if _closes_over_nothing(fn):
        return _TrivialClosureConvert(fn, in_dynamic, in_static)
    closed, out_dynamic, out_static = filter_make_jaxpr(fn)(*args, **kwargs)
    return _ClosureConvert(closed.jaxpr, closed.consts, in_dynamic, _flat(out_dynamic), in_static, _flat(out_static))


def _closes_over_nothing(fn: Callable[..., Any]) -> bool:
    if type(fn) is not types.FunctionType or fn.__closure__ is not None:
        return False
    defaults = (fn.__defaults__, fn.__kwdefaults__)
    return not any(map(eqx_core.is_array, jtu.tree_leaves(defaults)))


def _is_dynamic(leaf: Any) -> bool:
    return eqx_core.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _split(call: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[_Flat, _Flat]:
    """Return the structs for the arrays of a call, and the rest."""
    dynamic, static = partition(call, _is_dynamic)
    # Without the weak type, with which an array made of a Python number would differ from another.
    structs = jtu.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dynamic)
    return _flat(structs), _flat(static)


def _flat(tree: Any) -> _Flat:
    leaves, treedef = jtu.tree_flatten(tree)
    return tuple(leaves), treedef


def _join(*parts: _Flat) -> Any:
    return combine(*(treedef.unflatten(leaves) for leaves, treedef in parts))


def _arrays_of_call(
    converted: _TrivialClosureConvert | _ClosureConvert, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    """Return the arrays of a call, or raise if it is not like the examples."""
    dynamic, static = _split((args, kwargs))
    expected = {"dynamic": converted.in_dynamic_struct, "static": converted.in_static}
    for kind, got in (("dynamic", dynamic), ("static", static)):
        if eqx_core.internal.typed_key(got) != eqx_core.internal.typed_key(expected[kind]):
            raise ValueError(
                f"Closure-converted function called with different {kind} arguments to the example arguments provided: "
                f"`filter_closure_convert(fn, *args, **kwargs)(...)` must have arguments like "
                f"`{_shown(expected[kind])}`; got `{_shown(got)}`. Pass arrays of the shapes and "
                f"dtypes of the examples and the same of all else, or convert `fn` anew."
            )
    return [leaf for leaf in jtu.tree_leaves((args, kwargs)) if _is_dynamic(leaf)]


def _shown(part: _Flat) -> str:
    return eqx_core.tree_pformat(_join(part), struct_as_array=True)
