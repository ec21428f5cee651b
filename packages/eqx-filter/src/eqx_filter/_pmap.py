"""Run a function of anything on several devices at once: `filter_pmap`."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Hashable
from typing import Any, Literal

import jax
import jax.tree_util as jtu
import numpy as np

import eqx_core
import eqx_core.internal

from ._are_arrays import are_arrays
from ._axes import Axes, AxisSpec, short
from ._eval_shape import type_or_value
from ._jax_compat import hide_from_tracebacks, trace_context
from ._jit_output import Output, once_passed, pack
from ._lowered import Lowered
from ._quiet_donation import without_donation_warning
from ._runtime_check import check_in_trace
from ._runtime_error import presented
from ._transform import UNSET, Transformed, refuse_removed
from ._vmap import FIRST, REMOVED, arguments, batch_size, check_callable, no_keywords

hide_from_tracebacks(__file__)

_IN, _OUT = "filter_pmap(in_axes=...)", "filter_pmap(out_axes=...)"
_DONATE = ("all", "warn", "none")
_OURS = ("static_broadcasted_argnums", "donate_argnums")


class Pmapped(Transformed):
    """What `filter_pmap` returns."""

    fun: Callable[..., Any]
    in_axes: AxisSpec = eqx_core.field(static=True)
    out_axes: AxisSpec = eqx_core.field(static=True)
    axis_name: Hashable = eqx_core.field(static=True)
    axis_size: int | None = eqx_core.field(static=True)
    donate: str = eqx_core.field(static=True)
    options: tuple[tuple[str, Any], ...] = eqx_core.field(static=True)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        request = _Request(self, args, kwargs)
        with _quiet(self):
            program = request.program()
            try:
                return program(*request.arrays)()
            except Exception as error:
                failed = presented(error, program)
                if failed is None:
                    raise
        try:
            raise failed
        finally:
            failed.__traceback__ = None  # As in `filter_jit`.

    def lower(self, /, *args: Any, **kwargs: Any) -> Lowered:
        """Trace and lower without running: `.lower(...).compile()` is then a function of the same arguments.

        Args:
          *args: The arguments; a `jax.ShapeDtypeStruct` may stand for an array.
          **kwargs: Must be empty.
        """
        __tracebackhide__ = True
        request = _Request(self, jtu.tree_map(_stand_in, args), kwargs)
        with _quiet(self):
            lowered = request.program().lower(*request.arrays)
        form: Any = _Form(self, request.form)
        return Lowered(lowered, form)


def filter_pmap(
    fun: Callable[..., Any] = UNSET,
    *,
    in_axes: AxisSpec = FIRST,
    out_axes: AxisSpec = FIRST,
    axis_name: Hashable = None,
    axis_size: int | None = None,
    donate: Literal["all", "warn", "none"] = "none",
    **pmapkwargs: Any,
) -> Any:
    """Return a function that applies `fun` to each slice of its arguments, each on a device of its own.

    It is compiled once for each form of the arguments, and `fun` traced twice for it. For new programs JAX advises
    `filter_jit` on arrays that `filter_shard` has distributed.

    Args:
      fun: A function of any arguments, which are passed by position. Left out, the result is a decorator.
      in_axes: Which axis of each argument to map over, as in `filter_vmap`; leaves that are no arrays never are mapped.
      out_axes: Where in each result the mapped axis goes, as in `filter_vmap`. With None, the result of one device is
        returned.
      axis_name: What collective operations such as `jax.lax.psum` call the axis.
      axis_size: The length of the axis, over all processes; needed only if nothing is mapped.
      donate: Whether the memory of the arrays, those in `fun` included, may be used for the results: `"none"`,
        `"all"`, or `"warn"`, which is `"all"` with a warning if some could not be used.
      **pmapkwargs: Passed on to `jax.pmap`, for example `devices`.

    Returns:
      A function of the same positional arguments, with a method `lower` like that of `filter_jit`.

    Raises:
      ValueError: An option is unknown or of the past. On calling it: `in_axes` or `out_axes` does not suit the values,
        the axes have several lengths, or nothing tells the length.
      RuntimeError: On calling it: with keyword arguments.
      TypeError: `fun` is not callable, or there is an option unknown to `jax.pmap`.

    Example:
      >>> double = eqx_filter.filter_pmap(lambda x, name: (2 * x, name))
      >>> print(*double(jnp.ones((1, 3)), "twice"))
      [[2. 2. 2.]] twice
    """
    refuse_removed("filter_pmap", pmapkwargs, REMOVED)
    donate = _check_donate(donate)
    for option in _OURS:
        if option in pmapkwargs:
            raise ValueError(
                f"`filter_pmap({option}=...)` must not be given; got {pmapkwargs[option]!r}. Whatever is no array is "
                f"static by itself; to donate arrays, write `donate='all'`."
            )
    jax.pmap(len, **pmapkwargs)
    if fun is UNSET:
        axes = {"in_axes": in_axes, "out_axes": out_axes, "axis_name": axis_name, "axis_size": axis_size}
        return functools.partial(filter_pmap, **axes, donate=donate, **pmapkwargs)
    check_callable("filter_pmap", fun)
    options = tuple(pmapkwargs.items())
    return Pmapped(fun, in_axes, out_axes, axis_name, axis_size, donate, options)


def _check_donate(donate: Any) -> Any:
    if donate == "arrays":
        warnings.warn(
            "`filter_pmap(donate='arrays')` has been renamed to `donate='all'`. Write that.",
            DeprecationWarning,
            stacklevel=3,
        )
        return "all"
    if donate not in _DONATE:
        raise ValueError(f"`filter_pmap(donate=...)` must be one of 'all', 'warn' or 'none'; got {donate!r}.")
    return donate


class _Request:
    """One call, taken apart.

    Attributes:
      arrays: What is passed to `jax.pmap`.
      axes: For each of them the axis to map over, counted from the front, or None.
      form: What two calls that can share a compiled program have in common, beside shapes and dtypes.
    """

    def __init__(self, pmapped: Pmapped, args: tuple[Any, ...], kwargs: dict[str, Any]):
        if kwargs:
            raise no_keywords("filter_pmap", kwargs)
        self._pmapped = pmapped
        fun_leaves, self._fun = jtu.tree_flatten(pmapped.fun)
        self._given = arguments(_IN, pmapped.fun, pmapped.in_axes, args)
        is_array = are_arrays(self._given.leaves)
        self._given.axes = [axis if a else None for axis, a in zip(self._given.axes, is_array, strict=True)]
        self._size = self._local_size()
        self._leaves = fun_leaves + self._given.leaves
        self._where = [i for i, a in enumerate(are_arrays(fun_leaves) + is_array) if a]
        self.arrays = [self._leaves[i] for i in self._where]
        axes = [None] * len(fun_leaves) + self._given.axes
        self.axes = [_from_front(axes[i], self._leaves[i]) for i in self._where]
        for i in self._where:
            self._leaves[i] = None
        if self.axes.count(None) == len(self.axes):
            # `jax.pmap` wants something to map over.
            self.arrays.append(np.zeros(self._size, np.bool_))
            self.axes.append(0)
        statics = tuple(map(eqx_core.internal.typed_key, self._leaves))
        self.form = self._fun, self._given.structure, statics, tuple(self._where), tuple(self.axes)

    def _local_size(self) -> int:
        """Return the length of the mapped axis in this process."""
        pmapped = self._pmapped
        one_process = jax.process_count() == 1
        size = batch_size(_IN, self._given, pmapped.axis_size if one_process else None)
        if size is None and pmapped.axis_size is not None:
            size = pmapped.axis_size // jax.process_count()
        if size is None:
            raise ValueError(
                f"`{_IN}` must map over something, or `axis_size` be given; got {short(pmapped.in_axes)}. Pass an "
                f"array to map over."
            )
        return size

    def program(self) -> Any:
        """Return the compiled function of the arrays."""
        pmapped = self._pmapped
        options = pmapped.out_axes, pmapped.axis_name, pmapped.axis_size, pmapped.donate, pmapped.options
        types = tuple(map(type_or_value, self.arrays))
        key = self.form, self._size, types, eqx_core.internal.typed_key(options), trace_context()
        program = _PROGRAMS.get(key)
        if program is None:
            program = self._compile()
            if len(_PROGRAMS) >= _LIMIT:
                # Each entry keeps its function alive, so there cannot be ever more.
                _PROGRAMS.clear()
            _PROGRAMS[key] = program
        return program

    def _compile(self) -> Any:
        __tracebackhide__ = True
        pmapped, call = self._pmapped, self._call()
        rebuild, axes = self._outline(call)

        def on_arrays(*arrays: Any) -> Output:
            __tracebackhide__ = True
            # `jax.pmap` compares the structure with that of its `out_axes`.
            return Output(rebuild, call(*arrays)[0].args[0])

        on_arrays.__name__ = getattr(pmapped.fun, "__name__", type(pmapped.fun).__name__)
        donated = tuple(range(len(self.arrays))) if pmapped.donate != "none" else ()
        return jax.pmap(
            on_arrays,
            axis_name=pmapped.axis_name,
            in_axes=tuple(self.axes),
            out_axes=Output(rebuild, axes),
            axis_size=pmapped.axis_size,
            donate_argnums=donated,
            **dict(pmapped.options),
        )

    def _outline(self, call: Callable[..., Any]) -> tuple[Any, list[int | None]]:
        """Find out, before the mapped axis is there, where in the results it is to go."""
        __tracebackhide__ = True
        pmapped, found = self._pmapped, []

        def on_arrays(*arrays: Any) -> Any:
            __tracebackhide__ = True
            out, axes = call(*arrays)
            out = once_passed(out) if check_in_trace() else out
            places = [axis if axis is None or axis >= 0 else axis + x.ndim + 1 for axis, x in axes]
            found.append((out.func, places))
            return out.args[0]

        devices = dict(pmapped.options).get("devices")
        size = pmapped.axis_size or (self._size * jax.process_count() if devices is None else len(devices))
        env = None if pmapped.axis_name is None else [(pmapped.axis_name, size)]
        slices = [_slice(array, axis) for array, axis in zip(self.arrays, self.axes, strict=True)]
        jax.make_jaxpr(on_arrays, axis_env=env)(*slices)
        return found[-1]

    def _call(self) -> Callable[..., tuple[Output, list[tuple[int | None, Any]]]]:
        """Return the function of one slice of each array, which holds on to none of them."""
        fun, given, leaves, where = self._fun, self._given, self._leaves, self._where
        out_axes = self._pmapped.out_axes
        jit_boundary = object()

        def call(*arrays: Any) -> tuple[Output, list[tuple[int | None, Any]]]:
            __tracebackhide__ = True
            _ = jit_boundary  # By this a check that is made in here knows where the program begins.
            full = leaves.copy()
            for i, array in zip(where, arrays, strict=False):
                full[i] = array
            n = fun.num_leaves
            result = fun.unflatten(full[:n])(*given.unflatten(full[n:]))
            out = Axes(_OUT, out_axes, result)
            taken = out.settle(_OUT)
            return pack(out.unflatten(out.leaves)), [(out.axes[i], out.leaves[i]) for i in taken]

        given.leaves = []
        return call


_LIMIT = 4096
_PROGRAMS: dict[Hashable, Any] = {}
eqx_core.internal.register_cache(_PROGRAMS.clear)


def _from_front(axis: int | None, array: Any) -> int | None:
    return None if axis is None else axis % array.ndim


def _slice(array: Any, axis: int | None) -> jax.ShapeDtypeStruct:
    shape = list(array.shape)
    if axis is not None:
        del shape[axis]
    aval: Any = jax.typeof(array)
    return jax.ShapeDtypeStruct(tuple(shape), aval.dtype, weak_type=getattr(aval, "weak_type", False))


def _quiet(pmapped: Pmapped) -> contextlib.AbstractContextManager[None]:
    return without_donation_warning() if pmapped.donate == "all" else contextlib.nullcontext()


def _stand_in(leaf: Any) -> Any:
    """Return for a struct an array of its shape and dtype which takes no memory."""
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


class _Form:
    """What a program was compiled for: picks the arrays out of the arguments of a call, if it is of this form."""

    program = None
    late = False

    def __init__(self, pmapped: Pmapped, form: Hashable):
        self._pmapped = pmapped
        self._form = form

    def arrays(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        request = _Request(self._pmapped, args, kwargs)
        if request.form != self._form:
            raise ValueError(
                f"A compiled `filter_pmap` function must be called with arguments like those that it was lowered for, "
                f"save the values of arrays; got {short(args)}. Lower and compile it for these."
            )
        return request.arrays
