"""Compile a function of PyTrees that hold more than arrays: `filter_jit`."""

import functools
from collections.abc import Callable
from typing import Any

import jax

import eqx_core

from ._jax_compat import hide_from_tracebacks
from ._jit_cache import Cache, cache_of
from ._jit_shardings import placement
from ._lowered import Lowered, lower
from ._runtime_error import presented
from ._signature import Signature
from ._transform import UNSET, Transformed, refuse_removed

hide_from_tracebacks(__file__)

_DONATE = ("all", "all-except-first", "warn", "warn-except-first", "none")
_OURS = ("static_argnums", "static_argnames", "donate_argnums", "donate_argnames")
_REMOVED = ("default", "fn", "args", "kwargs", "out")


class Jitted(Transformed):
    """What `filter_jit` returns."""

    fun: Callable[..., Any]
    donate: str = eqx_core.field(static=True)
    options: tuple[tuple[str, Any], ...] = eqx_core.field(static=True)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    @functools.cached_property
    def _cache(self) -> Cache:
        return cache_of(self.fun, self.donate, self.options)

    @functools.cached_property
    def _signature(self) -> Signature:
        return Signature(self.fun)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in {"_cache", "_signature"}}

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if kwargs:
            args, kwargs = self._signature.arrange(args, kwargs)
        program, arrays = self._cache.find((self.fun, args, kwargs), self._signature)
        try:
            return program(*arrays)()
        except Exception as error:
            failed = presented(error, program)
            if failed is None:
                raise
        try:
            raise failed
        finally:
            # What is raised anew gets no entry for the frame that does it: the last is the caller's.
            failed.__traceback__ = None

    def lower(self, /, *args: Any, **kwargs: Any) -> Lowered:
        """Trace and lower without running: `.lower(...).compile()` is then a function of the same arguments.

        Args:
          *args: The arguments; a `jax.ShapeDtypeStruct` may stand for an array.
          **kwargs: Likewise.
        """
        __tracebackhide__ = True
        args, kwargs = self._signature.arrange(args, kwargs)
        return lower(self._cache, (self.fun, args, kwargs), self._signature)


def filter_jit(
    fun: Callable[..., Any] = UNSET,
    *,
    donate: str = "none",
    checks: str = "now",
    in_shardings: Any = None,
    out_shardings: Any = None,
    **jitkwargs: Any,
) -> Any:
    """Return a compiled version of `fun`, whose arguments and results may hold anything.

    All arrays, of JAX or NumPy, in `fun` and its arguments are traced. All other leaves are static: they must be
    hashable, and another value of one of them is another compilation. They are compared with their types, so 1, 1.0 and
    True differ. The call returns as soon as the computation has been started, as with `jax.jit`, unless there is a check
    of `error_if` in it.

    Args:
      fun: A function, a Module, a bound method, or any other callable. Left out, the result is a decorator.
      donate: Which arrays may be overwritten by the results: `"all"`, those of `fun` among them; `"all-except-first"`,
        all but those of the first positional argument; or `"none"`. `"warn"` and `"warn-except-first"` are the same as
        the first two, and let JAX warn of arrays that it could not make use of.
      checks: When a check that fails is an error: `"now"`, for which a call that holds checks waits until it is done; or
        `"late"`, when a result is read, which raises JAX's own `JaxRuntimeError` with the text of the check, and in
        `eqx_filter.wait()`, which raises it once as `EquinoxRuntimeError`. Results that other programs compute of such
        a result raise too. A program for several devices at once goes on with NaN instead, until `wait`.
      in_shardings: How the arrays in the arguments are to be distributed, as for `jax.jit`: one sharding or
        `PartitionSpec` for all, or a tuple with one tree for each positional argument, `self` included, that has the
        structure of the argument or of its upper part. None leaves it open, and what is no array is left alone.
      out_shardings: How the arrays in the result are to be distributed: a tree of the structure of the result or of its
        upper part, likewise.
      **jitkwargs: Passed on to `jax.jit`, for example `inline`, `keep_unused`, `compiler_options`.

    Returns:
      A function of the same arguments. Arrays in its results are JAX arrays, everything else is returned as it is. It is
      a PyTree of the leaves of `fun`, works as the decorator of a method, and has `.lower(*args, **kwargs)`.

    Raises:
      ValueError: `donate` or `checks` is none of these; an option is about arguments by number, or of the past; or on
        calling, a leaf is not hashable, an array that is donated is passed twice, or the structure of the shardings is
        not that of the arguments or results.
      TypeError: An option is unknown to `jax.jit`, or a leaf of the shardings is none; or on calling, the arguments are
        not those of `fun`.

    Example:
      >>> @eqx_filter.filter_jit
      ... def scale(model, x, activation):
      ...     return model | {"out": activation(model["weight"] * x)}
      >>> out = scale({"weight": jnp.array(3.0), "name": "linear"}, 2.0, jax.nn.relu)
      >>> print(out["out"], out["name"])
      6.0 linear
    """
    if fun is UNSET:
        shardings = {"in_shardings": in_shardings, "out_shardings": out_shardings}
        return functools.partial(filter_jit, donate=donate, checks=checks, **shardings, **jitkwargs)
    _check_options(donate, checks, jitkwargs)
    if checks == "late":
        jitkwargs["checks"] = checks
    for option, shardings in (("in_shardings", in_shardings), ("out_shardings", out_shardings)):
        if shardings is not None:
            jitkwargs[option] = placement(option, shardings)
    return Jitted(fun, donate, tuple(sorted(jitkwargs.items())))


def _check_options(donate: str, checks: str, jitkwargs: dict[str, Any]) -> None:
    if donate not in _DONATE:
        raise ValueError(
            f"`filter_jit(donate=...)` must be one of {', '.join(map(repr, _DONATE))}; got {donate!r}. "
            f"Write `donate='all'` to let all arguments be overwritten."
        )
    if checks not in ("now", "late"):
        raise ValueError(
            f"`filter_jit(checks=...)` must be 'now' or 'late'; got {checks!r}. Leave it out to have a failed check raise "
            f"in the call that it is a part of."
        )
    refuse_removed("filter_jit", jitkwargs, _REMOVED)
    for option in _OURS:
        if option in jitkwargs:
            raise ValueError(
                f"`filter_jit({option}=...)` must not be given: `jitkwargs` cannot contain {option!r}. Arrays are "
                f"traced and all else is static; write `donate=...` to donate, `eqx.filter_shard` to place arrays."
            )
    if jitkwargs:
        # Lets `jax.jit` refuse what it does not know now instead of at the first call.
        jax.jit(_check_options, **jitkwargs)
