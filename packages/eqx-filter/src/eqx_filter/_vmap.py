"""Vectorise a function of anything over an axis of its arrays: `filter_vmap`."""

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from ._axes import Axes, AxisSpec, axes_by_name, short
from ._if_array import if_array
from ._jax_compat import hide_from_tracebacks
from ._transform import UNSET, Transformed, refuse_removed

hide_from_tracebacks(__file__)

REMOVED = ("default", "fn", "args", "kwargs", "out")
FIRST = if_array(0)
_IN, _OUT = "filter_vmap(in_axes=...)", "filter_vmap(out_axes=...)"


class Vmapped(Transformed):
    """What `filter_vmap` returns."""

    fun: Callable[..., Any]
    in_axes: AxisSpec = eqx_core.field(static=True)
    out_axes: AxisSpec = eqx_core.field(static=True)
    axis_name: Hashable = eqx_core.field(static=True)
    axis_size: int | None = eqx_core.field(static=True)
    options: tuple[tuple[str, Any], ...] = eqx_core.field(static=True)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if kwargs:
            raise no_keywords("filter_vmap", kwargs)
        given = arguments(_IN, self.fun, self.in_axes, args)
        where = [i for i, axis in enumerate(given.axes) if axis is not None]
        if batch_size(_IN, given, self.axis_size) is None:
            return _call_unmapped(self, given)
        call = _Call(self.fun, given, where, self.out_axes)
        try:
            arrays = _vmap_for(self, call)(call, [given.leaves[i] for i in where])
        except ValueError:
            # Once the function has returned, nothing is left to go wrong but this.
            if None not in call.axes:
                raise
            raise _needs_axis(call) from None
        return call.out.replace(call.out_where, arrays)


def filter_vmap(
    fun: Callable[..., Any] = UNSET,
    *,
    in_axes: AxisSpec = FIRST,
    out_axes: AxisSpec = FIRST,
    axis_name: Hashable = None,
    axis_size: int | None = None,
    **vmapkwargs: Any,
) -> Any:
    """Return a function that applies `fun` to each slice of its arguments, all at once.

    By default every array among the arguments is mapped over its axis 0, and whatever else is passed on as it is. The
    arrays that `fun` itself holds are not mapped: to map over a model, make it an argument.

    Args:
      fun: A function of any arguments, which are passed by position. Left out, the result is a decorator.
      in_axes: Which axis of each argument to map over. None maps over nothing, an int over that axis; a function is
        called with each leaf and returns one of the two. Or a tuple of these for the arguments, or of trees whose
        structure is the upper part of theirs, or a dict by the names of parameters, `eqx_filter.if_array(0)` for those
        left out.
      out_axes: Where in each result the mapped axis goes, in the same ways, dicts by name apart. Results with None must
        not depend on what is mapped.
      axis_name: What collective operations such as `jax.lax.psum` call the axis.
      axis_size: The length of the axis; needed only if nothing is mapped.
      **vmapkwargs: Passed on to `jax.vmap`, for example `spmd_axis_name`.

    Returns:
      A function of the same positional arguments. If nothing is mapped it just calls `fun`. As the method of a class it
      maps over `self` like any argument.

    Raises:
      ValueError: There is an option of the past. On calling it: `in_axes` or `out_axes` does not suit the values, or
        the axes have several lengths.
      RuntimeError: On calling it: with keyword arguments.
      TypeError: `fun` is not callable, or there is an option unknown to `jax.vmap`.

    Example:
      >>> add = eqx_filter.filter_vmap(lambda x, y, name: (x + y, name), in_axes=(0, None, None))
      >>> print(*add(jnp.arange(3.0), jnp.array(1.0), "sum"))
      [1. 2. 3.] sum

      An ensemble of eight models is made by mapping over the constructor, and called by mapping over the model:

      >>> make = eqx_filter.filter_vmap(lambda key: {"weight": jr.normal(key, (2,)), "activation": jax.nn.relu})
      >>> ensemble = make(jr.split(jr.key(0), 8))
      >>> eqx_filter.filter_vmap(lambda model, x: model["weight"] @ x, in_axes=(eqx_filter.if_array(0), None))(
      ...     ensemble, jnp.ones(2)
      ... ).shape
      (8,)
    """
    refuse_removed("filter_vmap", vmapkwargs, REMOVED)
    jax.vmap(len, **vmapkwargs)
    if fun is UNSET:
        axes = {"in_axes": in_axes, "out_axes": out_axes, "axis_name": axis_name, "axis_size": axis_size}
        return functools.partial(filter_vmap, **axes, **vmapkwargs)
    check_callable("filter_vmap", fun)
    options = tuple(vmapkwargs.items())
    return Vmapped(fun, in_axes, out_axes, axis_name, axis_size, options)


class _Call:
    """One call on its way through `jax.vmap`: a PyTree without leaves, with all that is not mapped.

    Attributes:
      fun: What is called.
      given: Its arguments.
      where: The numbers of the leaves that are mapped.
      out_axes: Where the user wants the mapped axis.
      axes: The same for each array that is returned; filled by the call.
      out: What was returned; its arrays, at `out_where`, come out of `jax.vmap` instead.
    """

    __slots__ = ("axes", "fun", "given", "out", "out_axes", "out_where", "where")

    out: Axes
    out_where: list[int]

    def __init__(self, fun: Callable[..., Any], given: Axes, where: list[int], out_axes: AxisSpec):
        self.fun = fun
        self.given = given
        self.where = where
        self.out_axes = out_axes
        self.axes: list[int | None] = []


jtu.register_pytree_node(_Call, lambda call: ((), call), lambda call, _: call)


def _run(call: _Call, arrays: list[Any]) -> list[Any]:
    """Call the user's function on one slice; return the arrays in what it returns."""
    __tracebackhide__ = True
    out = Axes(_OUT, call.out_axes, call.fun(*call.given.replace(call.where, arrays)))
    where = out.settle(_OUT)
    arrays = [out.leaves[i] for i in where]
    call.axes[:] = [out.axes[i] for i in where]
    for i in where:
        # No tracer may be kept beyond its trace.
        out.leaves[i] = None
    call.out, call.out_where = out, where
    return arrays


# `jax.vmap` asks for the signature at each call; found here it takes 5 % less of a small one.
_run.__signature__ = inspect.signature(_run)


def _needs_axis(call: _Call) -> ValueError:
    paths = [call.out.path(i) for i, axis in zip(call.out_where, call.axes, strict=True) if axis is None]
    return ValueError(
        f"`{_OUT}` must have an axis for each result that depends on what is mapped; got None for "
        f"{', '.join(paths[:3])}{' and others' if len(paths) > 3 else ''}. Write an int, or `eqx_filter.if_array(0)`."
    )


def _vmap_for(self: Vmapped, call: _Call) -> Callable[[_Call, list[Any]], list[Any]]:
    """Return `jax.vmap` of `_run` with the axes of a call."""
    in_axes = tuple(call.given.axes[i] for i in call.where)
    if in_axes and in_axes.count(in_axes[0]) == len(in_axes):
        in_axes = in_axes[0]
    rest = self.axis_name, self.axis_size, self.options
    if type(self.out_axes) is int:
        return _cached_vmap(in_axes, self.out_axes, *rest)
    if type(self.out_axes) is if_array:
        return _cached_vmap(in_axes, self.out_axes.axis, *rest)
    # What the axes are turns out in the call, after which `jax.vmap` first looks at them.
    return _vmap(in_axes, call.axes, *rest)


def _vmap(in_axes: Any, out_axes: Any, axis_name: Hashable, axis_size: int | None, options: tuple) -> Any:
    return jax.vmap(
        _run,
        in_axes=(None, list(in_axes) if type(in_axes) is tuple else in_axes),
        out_axes=out_axes,
        axis_name=axis_name,
        axis_size=axis_size,
        **dict(options),
    )


_cached_vmap = functools.lru_cache(maxsize=1024, typed=True)(_vmap)
eqx_core.internal.register_cache(_cached_vmap.cache_clear)


def _call_unmapped(self: Vmapped, given: Axes) -> Any:
    __tracebackhide__ = True
    value = self.fun(*given.unflatten(given.leaves))
    out = Axes(_OUT, self.out_axes, value)
    for i, axis in enumerate(out.axes):
        if axis is not None:
            raise ValueError(
                f"Cannot resolve batch dimension: `{_OUT}` must be None if nothing is mapped and there is no "
                f"`axis_size`; got {axis} for the result's {out.describe(i)}. Map over an argument, or give "
                f"`axis_size` or `out_axes=None`."
            )
    return value


def arguments(option: str, fun: Callable[..., Any], in_axes: AxisSpec, args: tuple[Any, ...]) -> Axes:
    """Return the leaves of the arguments with their axes."""
    if isinstance(in_axes, dict):
        in_axes = axes_by_name(option, fun, in_axes, args)
    elif type(in_axes) is list:
        in_axes = tuple(in_axes)
    return Axes(option, in_axes, args)


def batch_size(option: str, given: Axes, size: int | None) -> int | None:
    """Return the length of the mapped axis, given what the user says it is; None if nothing tells.

    Raises:
      ValueError: There are several lengths, or a leaf lacks the axis.
    """
    first = -1
    for i, (leaf, axis) in enumerate(zip(given.leaves, given.axes, strict=True)):
        if axis is None:
            continue
        try:
            length = leaf.shape[axis]
        except (AttributeError, IndexError):
            raise ValueError(
                f"`{option}` must be None for what has no such axis; got {axis} for the arguments' "
                f"{given.describe(i)}. Write None for it, or `eqx_filter.if_array({axis})` to map over arrays alone."
            ) from None
        if size is None:
            size, first = length, i
        elif length != size:
            raise ValueError(_several_sizes(option, given, size, first, i))
    return size


def _several_sizes(option: str, given: Axes, size: int, first: int, second: int) -> str:
    said = f"`axis_size={size}`" if first < 0 else f"{size} for axis {given.axes[first]} of {given.describe(first)}"
    axis: Any = given.axes[second]
    length = given.leaves[second].shape[axis]
    return (
        f"`{option}` must map over axes of one length; got inconsistent sizes: {said} and {length} for axis {axis} of "
        f"the arguments' {given.describe(second)}. Write None for what should not be mapped."
    )


def no_keywords(name: str, kwargs: dict[str, Any]) -> RuntimeError:
    return RuntimeError(
        f"keyword arguments cannot be used with functions wrapped with `{name}`, as `in_axes` is for arguments by "
        f"position; got {', '.join(kwargs)}. Write `{name}(fun)(x)` instead of `{name}(fun)(x=x)`."
    )


def check_callable(name: str, fun: Any) -> None:
    if not callable(fun):
        raise TypeError(f"`{name}(fun=...)` must be callable; got {short(fun)}. Options are passed by their names.")
