"""The parts of JAX that are private or moving, each with a fallback to what is public."""

import dataclasses
import functools
import importlib
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.tree_util as jtu
from jax.core import AbstractValue as AbstractValue, ShapedArray as ShapedArray, eval_jaxpr as eval_jaxpr
from jax.interpreters import ad, batching, mlir


def _private(module: str, name: str) -> Any:
    """Return a private object of JAX, or None if this version has none of that name."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


# It is public as `jax.extend.core.Primitive`, but importing that loads all of Pallas.
_Primitive = _private("jax._src.core", "Primitive")

_NONE_LEAF = _private("jax._src.tree_util", "none_leaf_registry")


def _is_none(element: Any) -> bool:
    return element is None


def flatten_with_none(tree: Any, is_leaf: Callable[[Any], Any] | None = None) -> tuple[list[Any], Any]:
    """Flatten a PyTree, None being a leaf."""
    if _NONE_LEAF is None:
        if is_leaf is None:
            return jtu.tree_flatten(tree, _is_none)
        return jtu.tree_flatten(tree, lambda x: x is None or is_leaf(x))
    # The registry that counts None as a leaf does so in C++: the predicate would be a call for each node.
    return _NONE_LEAF.flatten(tree, is_leaf)


def hide_from_tracebacks(path: str) -> None:
    """Let JAX leave the frames of one of our files out of the tracebacks that it filters."""
    register = _private("jax._src.traceback_util", "register_exclusion")
    if register is not None:
        register(path)


def new_primitive(name: str) -> Any:
    """Return a JAX primitive without rules."""
    return (_Primitive or importlib.import_module("jax.extend.core").Primitive)(name)


def linear_identity(name: str, pull_back: Callable[..., Any]) -> Any:
    """Return a primitive that is the identity of one array, also on tangents, and stays in the program as such.

    Args:
      name: The name of the primitive.
      pull_back: A function from the cotangent of the output, and the parameters as keywords, to that of the input. It
        is not called where the cotangent is a symbolic zero.
    """

    def transpose(cotangent: Any, _: Any, **params: Any) -> list[Any]:
        return [cotangent if isinstance(cotangent, ad.Zero) else pull_back(cotangent, **params)]

    primitive = new_primitive(name)
    primitive.def_impl(lambda x, **_: x)
    primitive.def_abstract_eval(lambda x, **_: x)
    ad.deflinear2(primitive, transpose)
    batching.defvectorized(primitive)
    mlir.register_lowering(primitive, lambda ctx, x, **_: [x])
    return primitive


_TRACE_CONTEXT = _private("jax._src.config", "trace_context")


def has_tangent(level: Any, tracers: Sequence[Any]) -> list[bool] | None:
    """Tell which of the traced values have a tangent in the JVP of `level`, a traced value that has one in the innermost.

    Args:
      level: The traced value that says which JVP is meant.
      tracers: Any traced values.

    Returns:
      A bool for each, or None if this version of JAX does not tell.
    """
    try:
        tag, kind = level._trace.tag, type(level)
        return [type(x) is kind and x._trace.tag is tag and not isinstance(x.tangent, ad.Zero) for x in tracers]
    except AttributeError:
        return None


def trace_context() -> Hashable:
    """Return all that, beside a function and its arguments, decides about a trace: 64 bits or 32, meshes, axes, ..."""
    if _TRACE_CONTEXT is not None:
        return _TRACE_CONTEXT()
    return jax.dtypes.canonicalize_dtype("float64"), jax.sharding.get_abstract_mesh()


UndefinedPrimal = ad.UndefinedPrimal


def is_undefined(leaf: Any) -> bool:
    """Tell whether a transpose rule has got a linear input, of which only shape and dtype are known."""
    return isinstance(leaf, ad.UndefinedPrimal)


def is_zero(tangent: Any) -> bool:
    """Tell whether a tangent or cotangent is zero for sure: None, a symbolic zero, or that of an integer."""
    return tangent is None or isinstance(tangent, ad.Zero) or getattr(tangent, "dtype", None) == jax.dtypes.float0


def zero_tangent(primal: Any) -> Any:
    """Return the symbolic zero that is the tangent of an array."""
    return ad.Zero(jax.typeof(primal).to_tangent_aval())


def zero_like(zero: Any, change: Callable[[Any], Any]) -> Any:
    """Return a symbolic zero of the type that `change` returns for the type of another one."""
    return ad.Zero(change(zero.aval if isinstance(zero, ad.Zero) else jax.typeof(zero)))


def materialise(zero: Any) -> Any:
    """Return the array of zeros that a symbolic zero stands for."""
    return ad.instantiate_zeros(zero) if isinstance(zero, ad.Zero) else zero


def define_derivatives(primitive: Any, jvp: Callable[..., Any], transpose: Callable[..., Any]) -> None:
    """Let a primitive be differentiated and transposed by these rules, which JAX calls on lists of arrays."""
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose


def define_lowering(primitive: Any, fun: Callable[..., Any]) -> None:
    """Let a primitive be compiled as the function of arrays and parameters `fun` is."""
    mlir.register_lowering(primitive, mlir.lower_fun(fun, multiple_results=primitive.multiple_results))


@dataclasses.dataclass(frozen=True)
class VmapAxis:
    """An axis over which `jax.vmap` maps.

    Attributes:
      size: Its length.
      name: What collectives call it, or None.
      spmd_name: The axes of a mesh that it is spread over, or None.
      explicit: The same for explicit axes.
    """

    size: int
    name: Hashable
    spmd_name: Hashable
    explicit: Hashable


_UNNAMED = _private("jax._src.core", "no_axis_name")


def define_batching(primitive: Any, rule: Callable[..., Any]) -> None:
    """Let a primitive be mapped by `rule(axis, args, axes, **params)`, which returns results and their axes.

    It is called for each axis that is in scope, also if none of `args` has it, and None stands for its place.
    """

    def batch(data: Any, args: Sequence[Any], axes: Sequence[int | None], **params: Any) -> Any:
        name = None if data.name is _UNNAMED else data.name
        return rule(VmapAxis(data.size, name, data.spmd_name, data.explicit_mesh_axis), args, axes, **params)

    batching.fancy_primitive_batchers[primitive] = batch


def without_axis(axis: VmapAxis, place: int | None, aval: Any) -> Any:
    """Return the type of the entries of an array over which `axis` maps."""
    if place is None:
        return aval
    # Public only since JAX 0.8.2, in a module that loads all of Pallas.
    return _private("jax._src.core", "mapped_aval")(axis.size, place, aval)


def with_leading_axis(axis: VmapAxis, aval: Any) -> Any:
    """Return the type of an array that holds one entry of type `aval` for each step of `axis`, which comes first."""
    return _private("jax._src.core", "unmapped_aval")(axis.size, 0, aval, axis.explicit)


_NEED_DEVICES = _private("jax._src.dispatch", "prim_requires_devices_during_lowering")


def needs_devices(primitive: Any) -> None:
    """Let a primitive that calls back into Python be compiled for devices, not for any of their kind."""
    if _NEED_DEVICES is not None:
        _NEED_DEVICES.add(primitive)


def define_lowering_for_devices(primitive: Any, fun: Callable[..., Any]) -> None:
    """Let a primitive be compiled as `fun` is, which gets, as `devices`, how many devices the program is for."""

    def lower(ctx: Any, *args: Any, **params: Any) -> Any:
        context = ctx.module_context.axis_context
        mesh = getattr(context, "mesh", None)
        devices = getattr(context, "num_devices", 1) if mesh is None else mesh.size
        return mlir.lower_fun(functools.partial(fun, devices=devices), multiple_results=True)(ctx, *args, **params)

    mlir.register_lowering(primitive, lower)


def _shall_be_logged(record: logging.LogRecord) -> bool:
    return not record.exc_info or getattr(record.exc_info[1], "logged_by_jax", True)


# An exception in a host callback is an error of the program too. Those that say `logged_by_jax = False` are just that.
logging.getLogger("jax._src.callback").addFilter(_shall_be_logged)

_MAKE_ERROR_ARRAY = _private("jaxlib._jax", "_make_error_array")


def error_array(struct: jax.ShapeDtypeStruct, device: Any, text: str) -> Any:
    """Return an array on one device that raises a `JaxRuntimeError` when it is read, as do all that are computed of it.

    None if this version of JAX cannot make one.
    """
    if _MAKE_ERROR_ARRAY is None:
        return None
    sharding = jax.sharding.SingleDeviceSharding(device)
    return _MAKE_ERROR_ARRAY(device.client, jax.ShapeDtypeStruct(struct.shape, struct.dtype, sharding=sharding), text)


_RUNTIME_TOKENS = _private("jax._src.dispatch", "runtime_tokens")


def forget_failed_programs(is_known: Callable[[Exception], bool]) -> None:
    """Wait for the programs that call back into Python, and keep JAX from reporting those again that failed.

    Args:
      is_known: Whether an error need not be reported. JAX reports the others when Python ends.
    """
    tokens = getattr(_RUNTIME_TOKENS, "output_runtime_tokens", {})
    for device, token in list(tokens.items()):
        try:
            token.block_until_ready()
        except jax.errors.JaxRuntimeError as error:
            if is_known(error) and tokens.get(device) is token:
                del tokens[device]


_TRACE_CONTEXT_OF = _private("jax._src.core", "trace_ctx")


def staged_equations() -> Sequence[Any]:
    """Return the equations of the program that is being traced, as far as it has got; none outside of a trace."""
    frame = getattr(getattr(_TRACE_CONTEXT_OF, "trace", None), "frame", None)
    return () if frame is None else frame.get_eqns()


_JAXPRS = tuple(filter(None, (_private("jax._src.core", name) for name in ("Jaxpr", "ClosedJaxpr"))))


def is_jaxpr(value: Any) -> bool:
    """Tell whether a value is a program of JAX, be it closed or open."""
    return isinstance(value, _JAXPRS)


def close_jaxpr(jaxpr: Any) -> Any:
    """Return a program together with its constants, given one that has them or needs none."""
    return jaxpr if hasattr(jaxpr, "consts") else _private("jax._src.core", "ClosedJaxpr")(jaxpr, ())


custom_jvp_call_p = _private("jax._src.custom_derivatives", "custom_jvp_call_p")
stop_gradient_p = _private("jax._src.ad_util", "stop_gradient_p")

_user_context = _private("jax._src.source_info_util", "user_context")
_current_name_stack = _private("jax._src.source_info_util", "current_name_stack")


def bind_equation(eqn: Any, args: Sequence[Any]) -> list[Any]:
    """Return the results of one equation of a jaxpr."""
    params = eqn.primitive.get_bind_params(eqn.params)
    functions: Sequence[Any] = ()
    if isinstance(params, tuple):  # Until JAX 0.9.1.
        functions, params = params
    source = eqn.source_info
    stack = _current_name_stack() + source.name_stack
    with _user_context(source.traceback, name_stack=stack), eqn.ctx.manager:
        out = eqn.primitive.bind(*functions, *args, **params)
    return out if eqn.primitive.multiple_results else [out]


def in_program() -> bool:
    """Tell whether a function is being traced, as part of a program to be compiled."""
    trace: Any = getattr(_TRACE_CONTEXT_OF, "trace", None)
    # Inside of `jax.vmap` and `jax.grad` the current trace is one of theirs.
    while not hasattr(trace, "frame") and getattr(trace, "parent_trace", None) is not None:
        trace = trace.parent_trace
    return hasattr(trace, "frame")


def scan_operands(eqn: Any, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the operands of a `scan` equation in three groups: constants, carry, and what is scanned over."""
    groups = eqn.params.get("ft_in")
    if groups is not None:  # Since JAX 0.11.
        consts, carry, xs = map(list, groups.update(operands).unpack())
        return consts, carry, xs
    first = eqn.params["num_consts"]
    last = first + eqn.params["num_carry"]
    return list(operands[:first]), list(operands[first:last]), list(operands[last:])


_UNSPECIFIED = _private("jax._src.sharding_impls", "UNSPECIFIED")


def with_more_operands(eqn: Any, jaxpr: Any, operands: int, results: int) -> Any:
    """Return a `jit` equation with `jaxpr` in place of its own, which has so many operands and results more."""
    more = {"jaxpr": jaxpr}
    for name, count, value in (
        ("in_shardings", operands, _UNSPECIFIED),
        ("in_layouts", operands, None),
        ("donated_invars", operands, False),
        ("out_shardings", results, _UNSPECIFIED),
        ("out_layouts", results, None),
    ):
        more[name] = (*eqn.params[name], *[value] * count)
    return eqn.replace(params=eqn.params | more)


def scopes_of(eqn: Any) -> tuple[tuple[str, bool], ...]:
    """Return the names around an equation, outermost first, and of each whether it is that of a transformation."""
    stack = getattr(eqn.source_info.name_stack, "stack", ())
    return tuple((entry.name, type(entry).__name__ == "Transform") for entry in stack)


def frames_of(eqn: Any) -> list[tuple[str, int, str]]:
    """Return the places in the user's files that an equation comes from, innermost first: file, line, function."""
    frames = _private("jax._src.source_info_util", "user_frames")
    found = () if frames is None else frames(eqn.source_info.traceback)
    return [(frame.file_name, frame.start_line, frame.function_name) for frame in found]
