"""Compile a function on its own, to be called from other programs while they run: `noinline`."""

import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer

import eqx_core
import eqx_core.internal

from .._axes import short
from .._eval_shape import cached_filter_eval_shape
from .._finalise import finalise_fn, primitive_finalisations
from .._hashable_partition import hashable_combine, hashable_partition
from .._jax_compat import (
    ShapedArray,
    VmapAxis,
    define_batching,
    define_derivatives,
    define_lowering,
    hide_from_tracebacks,
    is_undefined,
    is_zero,
    new_primitive,
    with_leading_axis,
    zero_tangent,
)
from .._partition import combine, partition
from ._create_vprim import Map

hide_from_tracebacks(__file__)


def noinline(fn: Callable[..., Any], abstract_fn: Callable[..., Any] | None = None) -> Any:
    """Return a version of `fn` that is a program of its own, which other programs call through the host.

    However often it is used it is compiled once, and one such function can be exchanged for another without compiling
    what surrounds it again. Each call costs some 100 microseconds, and its arguments and results go through the memory
    of the host. `jax.vmap` and derivatives, of any order, are programs of their own too. One that is used inside of
    another becomes part of that one.

    Args:
      fn: Any callable; its arguments and results may be anything. It is kept for as long as Python runs.
      abstract_fn: A function that returns the same structure, shapes and dtypes as `fn`, called as
        `abstract_fn(filter(fn, is_array), *args, **kwargs)` and never run. Two functions can be exchanged if they have
        equal ones. By default each function has its own.

    Returns:
      A callable Module of the arrays in `fn`, and a number which says what function it is.

    Raises:
      ValueError: The program runs, and `fn` returns something else than `abstract_fn`.

    Example:
      >>> from eqx_filter.internal import noinline
      >>> sin, cos = (noinline(fn, abstract_fn=lambda _, x: x) for fn in (jnp.sin, jnp.cos))
      >>> print(jax.jit(jax.grad(sin))(0.0))
      1.0
    """
    arrays, static = partition(fn, eqx_core.is_array)
    if abstract_fn is None:
        abstract_fn = eqx_core.module_update_wrapper(_Itself(static))
    return eqx_core.module_update_wrapper(NoInline(_number_of(static), arrays, abstract_fn))


class NoInline(eqx_core.Module):
    """What `noinline` returns.

    Attributes:
      number: `int32[]`, by which the function is found. It is an array so that it may change from call to call.
      arrays: The arrays in the function.
      abstract_fn: What the function returns, as a function of `arrays` and its arguments.
    """

    number: Any
    arrays: Any
    abstract_fn: Callable[..., Any]

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.abstract_fn

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        announced = cached_filter_eval_shape(self.abstract_fn, self.arrays, *args, **kwargs)
        structs, out_static = hashable_partition(announced, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
        operands, in_static = hashable_partition((self.arrays, args, kwargs), eqx_core.is_array)
        types = tuple(ShapedArray(struct.shape, struct.dtype) for struct in structs if struct is not None)
        call = Call(in_static, out_static, types, ())
        out = noinline_p.bind(self.number, *_present(operands), call=call, out_types=types)
        remaining = iter(out)
        return hashable_combine(tuple(None if s is None else next(remaining) for s in structs), out_static)


class _Itself(eqx_core.Module):
    """The function that `noinline` is given, as a function of its arrays and arguments."""

    static: Any

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.static

    def __call__(self, arrays: Any, /, *args: Any, **kwargs: Any) -> Any:
        return combine(arrays, self.static)(*args, **kwargs)


_FUNCTIONS: list[Any] = []
_NUMBERS: dict[Any, int] = {}
_LOCK = threading.Lock()


def _number_of(static: Any) -> np.ndarray:
    """Return the number of a function, the same for equal ones. Only the process knows what it stands for."""
    key = eqx_core.internal.typed_key(static)
    with _LOCK:
        if key not in _NUMBERS:
            _FUNCTIONS.append(static)
            _NUMBERS[key] = len(_FUNCTIONS) - 1
        return np.array(_NUMBERS[key], np.int32)


def _present(leaves: Sequence[Any]) -> list[Any]:
    return [leaf for leaf in leaves if leaf is not None]


@dataclasses.dataclass(frozen=True)
class Call:
    """How a function is called, whichever it is.

    Attributes:
      inputs: All but the arrays of its own arrays, `args` and `kwargs`, as of `hashable_partition`.
      outputs: All but the arrays of its result.
      types: Those of the arrays in its result.
      transforms: What is done to it, as a function from arrays to arrays. The first is applied first.
    """

    inputs: Any
    outputs: Any
    types: tuple[ShapedArray, ...]
    transforms: tuple["Tangent | Transpose | Map", ...]

    def then(self, transform: "Tangent | Transpose | Map") -> "Call":
        return dataclasses.replace(self, transforms=(*self.transforms, transform))

    def of(self, function: Any) -> Callable[..., Any]:
        """Return the function from arrays to a list of arrays that is to be compiled."""
        fun = functools.partial(self._on_arrays, function)
        for transform in self.transforms:
            fun = transform.of(fun, transform.places) if isinstance(transform, Map) else transform.of(fun)
        return fun

    def _on_arrays(self, function: Any, *operands: Any) -> list[Any]:
        remaining = iter(operands)
        dynamic = tuple(next(remaining) if s is None else None for s in self.inputs[0])
        arrays, args, kwargs = hashable_combine(dynamic, self.inputs)
        out, out_static = hashable_partition(combine(arrays, function)(*args, **kwargs), eqx_core.is_array)
        out = _present(out)
        types = tuple(ShapedArray(x.shape, x.dtype) for x in out)
        typed_key = eqx_core.internal.typed_key
        if types != self.types or typed_key(out_static) != typed_key(self.outputs):
            raise ValueError(
                f"`noinline(fn=...)` must return what `abstract_fn` does, {_shown(self.types, self.outputs)}; got "
                f"{_shown(types, out_static)}. Exchange it only for functions that return the same structure, shapes "
                f"and dtypes."
            )
        return out


def _shown(types: Sequence[Any], static: Any) -> str:
    remaining = iter(types)
    structs = (jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in remaining)
    return f"`{short(hashable_combine(tuple(next(structs) if s is None else None for s in static[0]), static))}`"


@dataclasses.dataclass(frozen=True)
class Tangent:
    """The tangents of the floating-point results, as a function of the operands and the tangents of those that move."""

    moving: tuple[int, ...]

    def of(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        def tangent(*args: Any) -> Any:
            count = len(args) - len(self.moving)

            def of_moving(*moved: Any) -> list[Any]:
                operands = list(args[:count])
                for i, operand in zip(self.moving, moved, strict=True):
                    operands[i] = operand
                return list(filter(eqx_core.is_inexact_array, fun(*operands)))

            return jax.jvp(of_moving, tuple(args[i] for i in self.moving), args[count:])[1]

        return tangent


@dataclasses.dataclass(frozen=True)
class Transpose:
    """The cotangents of some operands, as a function of the other operands and the cotangents of some results.

    Attributes:
      types: For each operand, its type if it is one in which the function is linear, or else None.
      given: Which results have cotangents; those of the others are zero.
    """

    types: tuple[ShapedArray | None, ...]
    given: tuple[int, ...]

    def of(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        def transposed(*args: Any) -> Any:
            def of_linear(*linear: Any) -> list[Any]:
                unknown, known = iter(linear), iter(args)
                out = fun(*(next(known) if aval is None else next(unknown) for aval in self.types))
                return [out[i] for i in self.given]

            structs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in self.types if aval is not None]
            return jax.linear_transpose(of_linear, *structs)(list(args[self.types.count(None) :]))

        return transposed


_COMPILED: dict[Any, Callable[..., Any]] = {}
eqx_core.internal.register_cache(_COMPILED.clear)


_HOST = threading.local()


def _impl(number: Any, *args: Any, call: Call, out_types: Any) -> list[Any]:
    key = int(number), call, getattr(_HOST, "called_back", False)
    if key not in _COMPILED:
        fun = call.of(_FUNCTIONS[key[0]])
        # Programs that call back from within a callback can wait for ever for a thread of the CPU's pool.
        _COMPILED[key] = jax.jit(finalise_fn(fun) if key[-1] else fun)
    return list(_COMPILED[key](*args))


def _on_host(number: Any, *args: Any, **params: Any) -> list[np.ndarray]:
    before, _HOST.called_back = getattr(_HOST, "called_back", False), True
    try:
        return [np.asarray(jr.key_data(x) if _is_key(x) else x) for x in _impl(number, *args, **params)]
    except Exception as error:
        # It is an error of the program that calls back, which need not be told beside it.
        error.__dict__["logged_by_jax"] = False
        raise
    finally:
        _HOST.called_back = before


def _call_back(number: Any, *args: Any, call: Call, out_types: tuple[Any, ...]) -> list[Any]:
    structs, to_results = zip(*map(_on_the_way, out_types), strict=True) if out_types else ((), ())
    host = functools.partial(_on_host, call=call, out_types=out_types)
    out = jax.pure_callback(host, list(structs), number, *args)
    return [to_result(x) for to_result, x in zip(to_results, out, strict=True)]


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _on_the_way(aval: Any) -> tuple[jax.ShapeDtypeStruct, Callable[..., Any]]:
    """Return as what a result comes from the host, and what makes it of that: keys come as numbers."""
    struct = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
    if not _is_key(aval):
        return struct, lambda x: x
    impls: list[Any] = []
    raw = jax.eval_shape(lambda key: (impls.append(jr.key_impl(key)), jr.key_data(key))[1], struct)
    return raw, functools.partial(jr.wrap_key_data, impl=impls[0])


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, call: Call, out_types: Any) -> tuple[list[Any], list[Any]]:
    out = noinline_p.bind(*primals, call=call, out_types=out_types)
    tangents_out = list(map(zero_tangent, out))
    moving = tuple(i for i, tangent in enumerate(tangents[1:]) if not is_zero(tangent))
    movable = [i for i, aval in enumerate(out_types) if jnp.issubdtype(aval.dtype, jnp.inexact)]
    moved = noinline_p.bind(
        *primals,
        *(tangents[1 + i] for i in moving),
        call=call.then(Tangent(moving)),
        out_types=tuple(out_types[i] for i in movable),
    )
    for i, tangent in zip(movable, moved, strict=True):
        tangents_out[i] = tangent
    return out, tangents_out


def _transpose(cotangents: Sequence[Any], number: Any, *args: Any, call: Call, out_types: Any) -> list[Any]:
    types = tuple(ShapedArray(arg.aval.shape, arg.aval.dtype) if is_undefined(arg) else None for arg in args)
    known = [arg for arg in args if not is_undefined(arg)]
    given = tuple(i for i, cotangent in enumerate(cotangents) if not is_zero(cotangent))
    pulled = iter(
        noinline_p.bind(
            number,
            *known,
            *(cotangents[i] for i in given),
            call=call.then(Transpose(types, given)),
            out_types=tuple(_present(types)),
        )
    )
    return [None, *(None if aval is None else next(pulled) for aval in types)]


def _batch(
    axis: VmapAxis, args: Sequence[Any], places: Sequence[int | None], *, call: Call, out_types: Any
) -> tuple[list[Any], list[int | None]]:
    if axis.name is None and all(place is None for place in places):
        return noinline_p.bind(*args, call=call, out_types=out_types), [None] * len(out_types)
    if places[0] is not None:
        return _one_by_one(args, places, call=call, out_types=out_types), [0] * len(out_types)
    level = Map(axis, tuple(places[1:]))
    types = tuple(with_leading_axis(axis, aval) for aval in out_types)
    return noinline_p.bind(*args, call=call.then(level), out_types=types), [0] * len(out_types)


def _one_by_one(args: Sequence[Any], places: Sequence[int | None], **params: Any) -> list[Any]:
    """Return what the function of each entry of a batch returns: they may all be different ones."""
    batched = {i: place for i, place in enumerate(places) if place is not None}

    def of_entry(entry: Sequence[Any]) -> list[Any]:
        operands = list(args)
        for i, operand in zip(batched, entry, strict=True):
            operands[i] = operand
        return noinline_p.bind(*operands, **params)

    return jax.lax.map(of_entry, [jnp.moveaxis(args[i], place, 0) for i, place in batched.items()])


def _finalisation(number: Any, *args: Any, call: Call, out_types: Any) -> Sequence[Any]:
    if isinstance(number, Tracer):
        return noinline_p.bind(number, *args, call=call, out_types=out_types)
    return finalise_fn(call.of(_FUNCTIONS[int(number)]))(*args)


noinline_p = new_primitive("noinline")
noinline_p.multiple_results = True
noinline_p.def_impl(_impl)
noinline_p.def_abstract_eval(lambda *_, call, out_types: list(out_types))
define_derivatives(noinline_p, _jvp, _transpose)
define_lowering(noinline_p, _call_back)
define_batching(noinline_p, _batch)
primitive_finalisations[noinline_p] = _finalisation
