"""Give a function of models its own forward-mode derivative: `filter_custom_jvp`."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.custom_derivatives import SymbolicZero, zero_from_primal

import eqx_core

from ._jax_compat import flatten_with_none, hide_from_tracebacks

hide_from_tracebacks(__file__)


class filter_custom_jvp:
    """Wrap a function so that it is differentiated by a rule of its own, given by `def_jvp`.

    Args:
      fn: A function of any objects, whose outputs are arrays. Only arrays in its positional arguments can be
        differentiated, not those in keyword arguments or held by `fn` itself. Reverse mode transposes the rule.

    Raises:
      AttributeError: On calling it: there is no rule yet.
      ValueError: On differentiating it: a keyword argument has a tangent.

    Example:
      >>> @eqx_filter.filter_custom_jvp
      ... def scale(x, how, *, by):
      ...     return by * x
      >>> @scale.def_jvp
      ... def scale_jvp(primals, tangents, *, by):
      ...     x, how = primals
      ...     tangent, _ = tangents  # None where nothing is differentiated
      ...     return by * x, (100 * tangent if how == "wrong" else by * tangent)
      >>> print(jax.grad(lambda x: scale(x, "wrong", by=2.0))(1.0))
      100.0
    """

    def __init__(self, fn: Callable[..., Any]):
        self.fn = fn
        self.rule: Callable[..., Any] | None = None
        functools.update_wrapper(self, fn, updated=())

    def def_jvp(self, rule: Callable[..., Any]) -> None:
        """Set the rule.

        Args:
          rule: A function called as `rule(primals, tangents, **kwargs)`. Both are tuples of the positional arguments;
            in `tangents` whatever is not an array, or is not being differentiated, is None. It returns a pair: what the
            function returns, and the same structure of tangents, where None stands for zero.
        """
        self.rule = rule

    def defjvp(self, rule: Callable[..., Any]) -> None:
        """Set a rule of the old kind: each floating-point array has a tangent, which may be of zeros. Use `def_jvp`."""
        warnings.warn(
            "`filter_custom_jvp.defjvp` is deprecated in favour of `def_jvp`, whose rules get None, rather than zeros, "
            "for the tangent of an array that is not being differentiated. Rename it, and let the rule cope with None.",
            stacklevel=2,
        )

        def with_zeros(primals: Any, tangents: Any, **kwargs: Any) -> Any:
            return rule(primals, _with_zeros(primals, tangents), **kwargs)

        self.rule = with_zeros

    def defjvps(self, *rules: Any) -> None:
        """Refuse: rules for single arguments do not exist here."""
        raise NotImplementedError(
            "`filter_custom_jvp.defjvps` is not implemented: an argument may hold many arrays. Write one rule for all "
            "arguments with `def_jvp`."
        )

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if self.rule is None:
            raise AttributeError(
                f"No JVP defined for `filter_custom_jvp(fn={name_of(self.fn)})`. Give it one by `def_jvp` before it is "
                f"called."
            )
        leaves, treedef = jtu.tree_flatten((self.fn, args, kwargs))
        where = [i for i, leaf in enumerate(leaves) if eqx_core.is_array(leaf)]

        @jax.custom_jvp
        def call(arrays: list[Any]) -> Any:
            __tracebackhide__ = True
            fn, args, kwargs = treedef.unflatten(_placed(leaves, where, arrays))
            return fn(*args, **kwargs)

        def jvp(primals: Any, tangents: Any) -> Any:
            __tracebackhide__ = True
            primal = treedef.unflatten(_placed(leaves, where, primals[0]))
            moving = [None if type(tangent) is SymbolicZero else tangent for tangent in tangents[0]]
            tangent = treedef.unflatten(_placed([None] * len(leaves), where, moving))
            return self._apply_rule(primal, tangent)

        call.defjvp(jvp, symbolic_zeros=True)
        return call([leaves[i] for i in where])

    def _apply_rule(self, primal: Any, tangent: Any) -> tuple[Any, Any]:
        __tracebackhide__ = True
        _, args, kwargs = primal
        held, tangents, fixed = tangent
        for path, _ in jtu.tree_flatten_with_path({"kwargs": fixed, "fn": held})[0]:
            of_keyword = path[0].key == "kwargs"
            raise ValueError(
                f"Received {'keyword' if of_keyword else 'hidden'} tangent: `filter_custom_jvp(fn={name_of(self.fn)})` "
                f"must not be differentiated with respect to its keyword arguments or what the function itself holds; "
                f"got a tangent for `{path[0].key}{jtu.keystr(path[1:])}`. Pass it by position, or hold it fixed by "
                f"`jax.lax.stop_gradient`."
            )
        assert self.rule is not None
        out = self.rule(args, tangents, **kwargs)
        if not isinstance(out, (tuple, list)) or len(out) != 2:
            raise TypeError(
                f"`filter_custom_jvp.def_jvp(rule=...)` must return a pair `(out, tangent_out)`; got a "
                f"`{type(out).__name__}`. Return both, in a tuple."
            )
        return out[0], _with_symbolic_zeros(*out)


def _placed(leaves: list[Any], where: list[int], arrays: list[Any]) -> list[Any]:
    """Return the leaves with the arrays in their places."""
    leaves = leaves.copy()
    for i, array in zip(where, arrays, strict=True):
        # A Python number that is being differentiated arrives as one, although it has been a tracer before.
        leaves[i] = array if array is None or eqx_core.is_array(array) else jnp.asarray(array)
    return leaves


def _with_symbolic_zeros(out: Any, tangent: Any) -> Any:
    """Return the tangent of `out` as JAX wants it, with symbolic zeros in place of None."""
    primals, treedef = flatten_with_none(out)
    tangents, treedef_of_tangent = flatten_with_none(tangent)
    if treedef != treedef_of_tangent:
        raise TypeError(
            f"`filter_custom_jvp.def_jvp(rule=...)` must return primal and tangent outputs with equal container (PyTree) "
            f"structures, with None for a tangent of zero; got {treedef} and {treedef_of_tangent}. Return a tangent or "
            f"None for each leaf of the output."
        )
    return treedef.unflatten(
        [
            zero_from_primal(primal, symbolic_zeros=True) if tangent is None and primal is not None else tangent
            for primal, tangent in zip(primals, tangents, strict=True)
        ]
    )


def _with_zeros(primals: Any, tangents: Any) -> Any:
    leaves, treedef = flatten_with_none(primals)
    tangents, _ = flatten_with_none(tangents)
    return treedef.unflatten(
        [
            jnp.zeros_like(primal) if tangent is None and eqx_core.is_inexact_array(primal) else tangent
            for primal, tangent in zip(leaves, tangents, strict=True)
        ]
    )


def name_of(fn: Callable[..., Any]) -> str:
    """Return what to call a callable in an error."""
    return getattr(fn, "__name__", type(fn).__name__)
