"""The parts of JAX that are private or moving, each with a fallback to what is public."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from jax.core import ShapedArray as ShapedArray, eval_jaxpr as eval_jaxpr
from jax.interpreters import ad, batching, mlir


def _private(module: str, name: str) -> Any:
    """Return a private object of JAX, or None if this version has none of that name."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


# It is public as `jax.extend.core.Primitive`, but importing that loads all of Pallas.
_Primitive = _private("jax._src.core", "Primitive")


def new_primitive(name: str) -> Any:
    """Return a JAX primitive without rules."""
    return (_Primitive or importlib.import_module("jax.extend.core").Primitive)(name)


def is_zero(tangent: Any) -> bool:
    """Tell whether a rule has got, or returned, a symbolic zero."""
    return tangent is None or isinstance(tangent, ad.Zero)


def materialise(tangent: Any) -> Any:
    """Return a tangent as an array, of zeros if it is a symbolic zero."""
    return ad.instantiate_zeros(tangent)


def is_linear(operand: Any) -> bool:
    """Tell whether a transpose rule has got an operand in which the primitive is linear."""
    return isinstance(operand, ad.UndefinedPrimal)


def define_derivatives(primitive: Any, jvp: Callable[..., Any], transpose: Callable[..., Any]) -> None:
    """Let a primitive be differentiated and transposed by these rules, which JAX calls on its operands."""
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose


def define_batching(primitive: Any, rule: Callable[..., Any]) -> None:
    """Let a primitive be mapped by `rule(operands, axes)`, which returns the result and its axis."""
    batching.primitive_batchers[primitive] = rule


def define_lowering(primitive: Any, fun: Callable[..., Any]) -> None:
    """Let a primitive of one result be compiled as the function of arrays that `fun` is."""
    mlir.register_lowering(primitive, mlir.lower_fun(fun, multiple_results=False))


def effectful_identity(name: str) -> Any:
    """Return a primitive that is the identity of one array, and that JAX takes to print something.

    So a backward pass reuses its result where it would otherwise compute it a second time.
    """
    effect = _private("jax._src.debugging", "debug_effect")
    effects = frozenset() if effect is None else frozenset({effect})
    primitive = new_primitive(name)
    primitive.def_impl(lambda x: x)
    primitive.def_effectful_abstract_eval(lambda x: (x, effects))
    batching.defvectorized(primitive)
    mlir.register_lowering(primitive, lambda ctx, x: [x])
    return primitive


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
