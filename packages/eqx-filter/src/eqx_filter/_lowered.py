"""Compile ahead of time: what `filter_jit(fun).lower(...)` returns, and what that compiles to."""

import reprlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.stages
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from ._donation_aliases import DistinctProgram
from ._jax_compat import hide_from_tracebacks
from ._jit_cache import Cache, Call
from ._jit_output import are_traceable
from ._runtime_error import presented
from ._signature import Signature
from ._wait import run_late

hide_from_tracebacks(__file__)


class Lowered:
    """A function that was traced and lowered for arguments of one form.

    Attributes:
      lowered: What `jax.jit` made of it, a function of the arrays alone.
    """

    def __init__(self, lowered: jax.stages.Lowered, form: "Form"):
        self.lowered = lowered
        self._form = form

    def as_text(self, dialect: str | None = None, *, debug_info: bool = False) -> str:
        """Return the program as text, in the dialect `"stablehlo"` or `"hlo"`."""
        return self.lowered.as_text(dialect, debug_info=debug_info)

    def compile(self, compiler_options: dict[str, Any] | None = None) -> "Compiled":
        """Return the compiled program; the options are those of XLA."""
        return Compiled(self.lowered.compile(compiler_options), self._form)


class Compiled:
    """A function that was compiled for arguments of one form, to be called with such.

    Attributes:
      compiled: What `jax.jit` made of it, a function of the arrays alone.
    """

    def __init__(self, compiled: jax.stages.Compiled, form: "Form"):
        self.compiled = compiled
        self._form = form

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the program.

        Raises:
          TypeError: The arguments are not those of the function, or differ in structure, shape or dtype from those
            that it was lowered for.
          ValueError: They differ in a leaf that is no array.
          EquinoxRuntimeError: A check of `error_if` fails.
        """
        __tracebackhide__ = True
        arrays = self._form.arrays(args, kwargs)
        try:
            if self._form.late:
                return run_late(self.compiled, arrays, lambda: self.compiled)()
            return self.compiled(*arrays)()
        except Exception as error:
            failed = presented(error, self._form.program)
            if failed is None:
                raise
        try:
            raise failed
        finally:
            failed.__traceback__ = None  # As in `filter_jit`.

    def as_text(self) -> str | None:
        """Return the optimised program as text, if the platform has one."""
        return self.compiled.as_text()


class Form:
    """The arguments that a function is lowered for, whatever the values of the arrays.

    Attributes:
      program: The program that is to be lowered.
      avals: What to lower it for.
      late: Whether its results raise the checks that fail, not its calls.
    """

    def __init__(self, cache: Cache, call: Call, signature: Signature):
        __tracebackhide__ = True
        self._fun = call[0]
        self._signature = signature
        self._leaves, self._treedef = jtu.tree_flatten(call)
        self._traced = [
            is_traced or isinstance(leaf, jax.ShapeDtypeStruct)
            for leaf, is_traced in zip(self._leaves, are_traceable(self._leaves), strict=True)
        ]
        self._plan = cache.plan(self._leaves, self._treedef, self._traced)
        self.program = cache.program(self._plan, self._leaves, call, signature)
        self.avals = self._plan.arrays(self._leaves)
        self.late = cache.late

    def arrays(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        """Return the arrays among the arguments of a call, if it is of this form."""
        __tracebackhide__ = True
        call = (self._fun, *self._signature.arrange(args, kwargs))
        leaves, treedef = jtu.tree_flatten(call)
        if treedef != self._treedef:
            self._signature.check(*call[1:])
            raise TypeError(
                f"A compiled `filter_jit` function must be called with arguments of the structure that it was lowered "
                f"for, {reprlib.repr(self._treedef)}; got {reprlib.repr(treedef)}. Lower and compile it for these."
            )
        traced = are_traceable(leaves)
        statics = zip(self._leaves, leaves, self._traced, strict=True)
        for place, (lowered, leaf, is_traced) in enumerate(statics):
            if traced[place] is not is_traced or (not is_traced and not _same(lowered, leaf)):
                raise self._difference(call, place, is_traced)
        arrays = self._plan.arrays(leaves)
        if isinstance(self.program, DistinctProgram):
            self.program.check(arrays)
        return arrays

    def _difference(self, call: Call, place: int, is_traced: bool) -> Exception:
        path, leaf = jtu.tree_flatten_with_path(call)[0][place]
        expected = "an array" if is_traced else reprlib.repr(self._leaves[place])
        got = "an array" if eqx_core.is_array(leaf) else reprlib.repr(leaf)
        error = TypeError if is_traced or eqx_core.is_array(leaf) else ValueError
        return error(
            f"A compiled `filter_jit` function must be called with the leaves that it was lowered for, "
            f"{expected} at `{self._signature.describe(path)}`; got {got}. Lower and compile it for this one."
        )


def _same(a: Any, b: Any) -> bool:
    return a is b or eqx_core.internal.typed_key(a) == eqx_core.internal.typed_key(b)


def lower(cache: Cache, call: Call, signature: Signature) -> Lowered:
    """Return a call lowered; `jax.ShapeDtypeStruct`s stand for arrays."""
    __tracebackhide__ = True
    form = Form(cache, call, signature)
    return Lowered(form.program.lower(*form.avals), form)
