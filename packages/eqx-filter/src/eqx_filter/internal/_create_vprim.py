"""Make a primitive that can be mapped, from its other rules: `create_vprim`."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from .._finalise import primitive_finalisations
from .._jax_compat import (
    UndefinedPrimal,
    VmapAxis,
    define_batching,
    define_derivatives,
    define_lowering,
    hide_from_tracebacks,
    is_undefined,
    is_zero,
    new_primitive,
    with_leading_axis,
    without_axis,
    zero_like,
    zero_tangent,
)

hide_from_tracebacks(__file__)

_Rule = Callable[..., Any]


def create_vprim(name: str, impl: _Rule, abstract_eval: _Rule, jvp: _Rule, transpose: _Rule) -> Any:
    """Return a JAX primitive whose batching rule is `jax.vmap` of its other rules.

    So a primitive may be called in each of its own rules, and each of them must be one that can be mapped. Mapped over,
    it is in the program as the primitive `vprim`, with the axes among its parameters.

    Args:
      name: The name of the primitive.
      impl: As for `prim.def_impl`; it is also what is compiled. These four may be made by `filter_primitive_def` and the
        like.
      abstract_eval: As for `prim.def_abstract_eval`.
      jvp: As in `jax.interpreters.ad.primitive_jvps`.
      transpose: As in `jax.interpreters.ad.primitive_transposes`.

    Returns:
      A primitive with `multiple_results`. `def_impl` may be called again: it then changes what calls outside of
      `jax.jit` and `jax.vmap` do.

    Example:
      >>> from eqx_filter.internal import create_vprim
      >>> scale_p = create_vprim(
      ...     "scale",
      ...     impl=lambda x, *, by: [by * x],
      ...     abstract_eval=lambda x, *, by: [x],
      ...     jvp=lambda primals, tangents, *, by: (scale_p.bind(*primals, by=by), scale_p.bind(*tangents, by=by)),
      ...     transpose=lambda cotangents, x, *, by: scale_p.bind(*cotangents, by=by),
      ... )
      >>> jax.vmap(jax.grad(lambda x: scale_p.bind(x, by=3.0)[0]))(jnp.ones(2))
      Array([3., 3.], dtype=float32)
    """
    primitive = new_primitive(name)
    primitive.multiple_results = True
    rules = _RULES[primitive] = Rules(impl, abstract_eval, jvp, transpose)
    _define(primitive, rules, functools.partial(_batch, primitive))
    return primitive


@dataclasses.dataclass(frozen=True)
class Rules:
    """The rules of a primitive, but for the batching rule."""

    impl: _Rule
    abstract_eval: _Rule
    jvp: _Rule
    transpose: _Rule


_RULES: dict[Any, Rules] = {}


def _define(primitive: Any, rules: Rules, batch: _Rule) -> None:
    primitive.def_impl(rules.impl)
    primitive.def_abstract_eval(rules.abstract_eval)
    define_derivatives(primitive, rules.jvp, rules.transpose)
    define_lowering(primitive, rules.impl)
    define_batching(primitive, batch)


@dataclasses.dataclass(frozen=True)
class Map:
    """One `jax.vmap` around a primitive.

    Attributes:
      axis: The axis.
      places: Where it is in each of the operands; None where it is not.
    """

    axis: VmapAxis
    places: tuple[int | None, ...]

    def of(self, fun: _Rule, in_axes: Any, out_axes: Any = 0) -> _Rule:
        """Return `fun` mapped over the axis."""
        axis = self.axis
        options: dict[str, Any] = {"axis_size": axis.size, "axis_name": axis.name, "spmd_axis_name": axis.spmd_name}
        return jax.vmap(fun, in_axes, out_axes, **options)

    def entry(self, place: int | None, aval: Any) -> Any:
        """Return the type of what is mapped, given that of the array that it is in."""
        return without_axis(self.axis, place, aval)


def mapped(rules: Rules, level: Map) -> Rules:
    """Return the rules of a primitive that does the same for each entry along an axis. Results have the axis first."""

    def impl(*args: Any, **params: Any) -> list[Any]:
        return level.of(functools.partial(rules.impl, **params), level.places)(*args)

    def abstract_eval(*avals: Any, **params: Any) -> list[Any]:
        entries = list(map(level.entry, level.places, avals))
        out: list[Any] = []
        # The rule may trace a function with collectives, so the axis has to be in scope.
        level.of(lambda: out.extend(rules.abstract_eval(*entries, **params)), ())()
        return [with_leading_axis(level.axis, aval) for aval in out]

    return Rules(
        impl, abstract_eval, functools.partial(_jvp, rules, level), functools.partial(_transpose, rules, level)
    )


def _jvp(
    rules: Rules, level: Map, primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[Any, list[Any]]:
    moving = [i for i, tangent in enumerate(tangents) if not is_zero(tangent)]

    def of_entries(primals: Sequence[Any], moved: Sequence[Any]) -> tuple[Any, list[Any]]:
        tangents = [zero_tangent(primal) for primal in primals]
        for i, tangent in zip(moving, moved, strict=True):
            tangents[i] = tangent
        out, tangents_out = rules.jvp(primals, tangents, **params)
        return out, [None if is_zero(tangent) else tangent for tangent in tangents_out]

    in_axes = list(level.places), [level.places[i] for i in moving]
    out, moved = level.of(of_entries, in_axes)(list(primals), [tangents[i] for i in moving])
    return out, [zero_tangent(x) if t is None else t for x, t in zip(out, moved, strict=True)]


def _transpose(rules: Rules, level: Map, cotangents: Sequence[Any], *args: Any, **params: Any) -> list[Any]:
    linear = [i for i, arg in enumerate(args) if is_undefined(arg)]
    known = [i for i, arg in enumerate(args) if not is_undefined(arg)]
    given = [cotangent for cotangent in cotangents if not is_zero(cotangent)]

    def of_entries(known_args: Sequence[Any], given_cotangents: Sequence[Any]) -> list[Any]:
        entries: list[Any] = [None] * len(args)
        for i in linear:
            entries[i] = UndefinedPrimal(level.entry(level.places[i], args[i].aval))
        for i, arg in zip(known, known_args, strict=True):
            entries[i] = arg
        remaining = iter(given_cotangents)
        inner = [
            zero_like(cotangent, functools.partial(level.entry, 0)) if is_zero(cotangent) else next(remaining)
            for cotangent in cotangents
        ]
        out = rules.transpose(inner, *entries, **params)
        return [None if is_zero(out[i]) else out[i] for i in linear]

    places = [level.places[i] for i in linear]
    in_axes = [level.places[i] for i in known], [0] * len(given)
    pulled = level.of(of_entries, in_axes, [place or 0 for place in places])([args[i] for i in known], given)
    out: list[Any] = [None] * len(args)
    for i, place, cotangent in zip(linear, places, pulled, strict=True):
        # Each entry has used the whole of what is not mapped over.
        out[i] = cotangent.sum(0) if place is None and cotangent is not None else cotangent
    return out


def _batch(
    primitive: Any, axis: VmapAxis, args: Sequence[Any], places: Sequence[int | None], **params: Any
) -> tuple[list[Any], list[int | None]]:
    if axis.name is None and all(place is None for place in places):
        out = primitive.bind(*args, **params)
        return out, [None] * len(out)
    level = Map(axis, tuple(places))
    if primitive is vprim_p:
        params["levels"] += (level,)
    else:
        params |= {"mapped_primitive": primitive, "levels": (level,)}
    out = vprim_p.bind(*args, **params)
    return out, [0] * len(out)


def rules_of(primitive: Any, levels: Sequence[Map]) -> Rules:
    """Return the rules of a primitive made by `create_vprim` with each of some `jax.vmap`s around it, inner first."""
    return functools.reduce(mapped, levels, _RULES[primitive])


def _of_levels(name: str) -> _Rule:
    def rule(*args: Any, mapped_primitive: Any, levels: tuple[Map, ...], **params: Any) -> Any:
        return getattr(rules_of(mapped_primitive, levels), name)(*args, **params)

    return rule


vprim_p = new_primitive("vprim")
vprim_p.multiple_results = True
_define(
    vprim_p,
    Rules(*(_of_levels(field.name) for field in dataclasses.fields(Rules))),
    functools.partial(_batch, vprim_p),
)


def _finalisation(*args: Any, mapped_primitive: Any, levels: tuple[Map, ...], **params: Any) -> Any:
    rule = primitive_finalisations.get(mapped_primitive)
    if rule is None:
        return vprim_p.bind(*args, mapped_primitive=mapped_primitive, levels=levels, **params)
    for level in levels:
        rule = level.of(functools.partial(rule, **params), level.places)
        params = {}
    return rule(*args)


primitive_finalisations[vprim_p] = _finalisation
