"""Refuse every transformation but `jax.jit`: `nontraceable`."""

from collections.abc import Sequence
from typing import Any, NoReturn

import jax.tree_util as jtu
from jax.core import Tracer

from .._finalise import register_impl_finalisation
from .._jax_compat import VmapAxis, define_batching, define_derivatives, define_lowering, new_primitive


def nontraceable(x: Any, *, name: str = "nontraceable operation") -> Any:
    """Return `x`; to differentiate, transpose or batch it is an error when it is traced.

    It stays in the program, and so guards a jaxpr that is evaluated again as well.

    Args:
      x: Any PyTree.
      name: What to name in the error.

    Raises:
      RuntimeError: A tangent, a cotangent or a batch reaches it.

    Example:
      >>> from eqx_filter.internal import nontraceable
      >>> try:
      ...     jax.vmap(lambda x: nontraceable(x, name="My solver"))(jnp.ones(2))
      ... except RuntimeError as error:
      ...     print(error)
      Detected batching of My solver. Pass what is traced as an argument, or compute it outside of the transformation.
    """

    def guard(leaf: Any) -> Any:
        # Nothing else can be transformed.
        return nontraceable_p.bind(leaf, name=name) if isinstance(leaf, Tracer) else leaf

    return jtu.tree_map(guard, x)


def _refuse(what: str, name: str) -> NoReturn:
    raise RuntimeError(
        f"Detected {what} of {name}. Pass what is traced as an argument, or compute it outside of the transformation."
    )


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, name: str) -> Any:
    _refuse("differentiation", name)


def _transpose(cotangent: Any, x: Any, *, name: str) -> Any:
    _refuse("transposition", name)


def _batch(axis: VmapAxis, args: Sequence[Any], places: Sequence[int | None], *, name: str) -> Any:
    if places[0] is not None:
        _refuse("batching", name)
    return nontraceable_p.bind(*args, name=name), None


nontraceable_p = new_primitive("nontraceable")
nontraceable_p.def_impl(lambda x, *, name: x)
nontraceable_p.def_abstract_eval(lambda x, *, name: x)
define_derivatives(nontraceable_p, _jvp, _transpose)
define_lowering(nontraceable_p, lambda x, *, name: x)
define_batching(nontraceable_p, _batch)
register_impl_finalisation(nontraceable_p)
