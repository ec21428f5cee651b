"""Find the program that a call of a jitted function runs: what makes a call cheap.

A call is flattened once. The structure and the types of the leaves select a `Plan`, which knows where the arrays are.
The other leaves are the key under which the plan finds its program: one `jax.jit` from arrays to arrays.
"""

import dataclasses
import functools
import operator
import os
import reprlib
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from ._donation_aliases import DistinctProgram
from ._jax_compat import hide_from_tracebacks
from ._jit_output import are_traceable, inverse, pack, picker
from ._jit_shardings import Placement, of_each_leaf, placed
from ._quiet_donation import QuietProgram
from ._retraces import Retraces, to_stderr
from ._runtime_check import check_in_trace
from ._signature import Signature
from ._trace_checks import checked
from ._transform import Transformed
from ._wait import LateProgram

hide_from_tracebacks(__file__)

# These are compared by identity, and can be referred to weakly.
_FUNCTIONS = frozenset(
    {types.FunctionType, functools.partial, type(jax.jit(lambda: None)), jax.custom_jvp, jax.custom_vjp}
)
# Leaves of one of these types are the same just if `==` says so.
_ATOMS = _FUNCTIONS | {int, bool, str, bytes, type, types.BuiltinFunctionType}
# What is called with what: `(fun, args, kwargs)`.
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

# What is no option of `jax.jit`, or is not passed on to it as it is.
_OURS = ("checks", "explain", "in_shardings", "out_shardings")
_EXPLAIN_ALL = os.environ.get("EQX_EXPLAIN_RETRACE", "0") not in ("", "0")
_LIMIT = 4096
_LOCK = threading.RLock()
_flatten = jtu.default_registry.flatten


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How the leaves of a call are told apart.

    Attributes:
      treedef: The structure of `(fun, args, kwargs)`.
      kinds: The types of the leaves.
      arrays: Picks the arrays out of the leaves.
      statics: Picks out the other leaves, save the function by which the cache is held.
      key: Returns, of the leaves, the key of the statics; TypeError if one of them has no hash.
      order: Where among the arrays, the statics and that function, in this order, each leaf is.
      donated: Which of the arrays are donated.
      programs: The programs, by the key. Plans that differ only in the types of the arrays share them.
    """

    treedef: Any
    kinds: tuple[type, ...]
    arrays: Callable[[Sequence[Any]], Sequence[Any]]
    statics: Callable[[Sequence[Any]], Sequence[Any]]
    key: Callable[[Sequence[Any]], Hashable]
    order: tuple[int, ...]
    donated: tuple[int, ...]
    programs: dict[Hashable, Any]


class Cache:
    """The programs of one function, or of all callables that are PyTrees themselves, for one choice of options.

    Args:
      donate: As in `filter_jit`.
      options: What to pass to `jax.jit`; `checks`, if it is not "now"; the placements of arguments and results.
      function: The function, if the cache lives as long as it does. Then it is the first leaf of each call.
    """

    def __init__(self, donate: str, options: dict[str, Any], function: "weakref.ref[Any] | None"):
        self.donate = donate
        self.late = options.get("checks") == "late"
        self.inputs: Placement | None = options.get("in_shardings")
        self.outputs: Placement | None = options.get("out_shardings")
        self.options = {name: value for name, value in options.items() if name not in _OURS}
        self.function = function
        self._plans: dict[Hashable, Plan] = {}
        self._programs: dict[Hashable, dict[Hashable, Any]] = {}
        self._last: Plan | None = None

    def clear(self) -> None:
        self._plans.clear()
        self._programs.clear()
        self._last = None

    def find(self, call: Call, signature: Signature) -> tuple[Any, Sequence[Any]]:
        """Return the program that runs a call, and the arrays to call it with.

        Raises:
          TypeError: The arguments are not those of the callable.
          ValueError: A leaf is neither an array nor hashable.
        """
        __tracebackhide__ = True
        leaves, treedef = _flatten(call, None)
        kinds = tuple(map(type, leaves))
        plan = self._last
        # Most calls are like the one before. To see that takes less than hashing a large structure.
        if plan is None or kinds != plan.kinds or treedef != plan.treedef:
            plan = self._last = self._known_plan(leaves, treedef, kinds)
        try:
            program = plan.programs.get(plan.key(leaves))
        except TypeError:
            program = None
        if program is None:
            program = self.program(plan, leaves, call, signature)
        return program, plan.arrays(leaves)

    def find_split(self, call: Call, signature: Signature, traced: tuple[bool, ...]) -> tuple[Any, Sequence[Any]]:
        """Do what `find` does, told which leaves are traced."""
        __tracebackhide__ = True
        leaves, treedef = _flatten(call, None)
        plan = self._known_plan(leaves, treedef, tuple(map(type, leaves)), traced)
        return self.program(plan, leaves, call, signature), plan.arrays(leaves)

    def _known_plan(
        self, leaves: list[Any], treedef: Any, kinds: tuple[type, ...], traced: tuple[bool, ...] | None = None
    ) -> Plan:
        plan = self._plans.get((treedef, kinds, traced))
        if plan is None:
            plan = self.plan(leaves, treedef, are_traceable(leaves) if traced is None else traced)
            with _LOCK:
                plan = _remember(self._plans, (treedef, kinds, traced), plan)
        return plan

    def plan(self, leaves: Sequence[Any], treedef: Any, traced: Sequence[bool]) -> Plan:
        """Return how calls of this structure are split, given which leaves are traced."""
        arrays = [i for i, is_traced in enumerate(traced) if is_traced]
        own = [] if self.function is None else [0]
        statics = [i for i, is_traced in enumerate(traced) if not is_traced and i not in own]
        kinds = tuple(map(type, leaves))
        kept = _kept(self.donate, treedef)
        form = treedef, tuple(None if is_traced else kind for kind, is_traced in zip(kinds, traced, strict=True))
        with _LOCK:
            programs = _remember(self._programs, form, {})
        return Plan(
            treedef=treedef,
            kinds=kinds,
            arrays=picker(arrays),
            statics=picker(statics),
            key=_key_function(statics, {kinds[i] for i in statics}),
            order=tuple(inverse(arrays + statics + own)),
            donated=tuple(place for place, i in enumerate(arrays) if i not in kept),
            programs=programs,
        )

    def program(self, plan: Plan, leaves: Sequence[Any], call: Call, signature: Signature) -> Any:
        """Return the program for a call, which is made if there is none; it raises what `find` does."""
        __tracebackhide__ = True
        fun, args, kwargs = call
        signature.check(args, kwargs)
        try:
            key = plan.key(leaves)
        except TypeError:
            raise _unhashable(call, signature) from None
        known = plan.programs.get(key)
        if known is not None:
            return known
        traced = _on_arrays(plan, tuple(plan.statics(leaves)), self.function, _name(fun))
        make = QuietProgram if self.donate.startswith("all") else jax.jit
        options = self.options
        if self.inputs is not None or self.outputs is not None:
            inputs = None if self.inputs is None else tuple(plan.arrays(of_each_leaf(self.inputs, call)))
            traced = placed(traced, inputs, self.outputs)
            options = options if inputs is None else {**options, "in_shardings": inputs}
        with warnings.catch_warnings():
            # What JAX has to say of the options it has said when the function was decorated.
            warnings.simplefilter("ignore", DeprecationWarning)
            program = make(traced, donate_argnums=plan.donated, **options)
        if self.late:
            program = LateProgram(program)
        if plan.donated:
            program = DistinctProgram(program, self.donate, plan.donated, _paths(plan, call, signature))
        with _LOCK:
            return _remember(plan.programs, key, program)


class ExplainedCache(Cache):
    """A cache that says why a call is traced."""

    def __init__(self, donate: str, options: dict[str, Any], function: "weakref.ref[Any] | None"):
        super().__init__(donate, options, function)
        self._retraces = Retraces(options.get("explain", to_stderr), owned=function is not None)

    def clear(self) -> None:
        super().clear()
        self._retraces.clear()

    def find(self, call: Call, signature: Signature) -> tuple[Any, Sequence[Any]]:
        __tracebackhide__ = True
        found = super().find(call, signature)
        self._retraces.note(_name(call[0]), call, signature)
        return found

    def find_split(self, call: Call, signature: Signature, traced: tuple[bool, ...]) -> tuple[Any, Sequence[Any]]:
        __tracebackhide__ = True
        found = super().find_split(call, signature, traced)
        self._retraces.note(_name(call[0]), call, signature, traced)
        return found


def _paths(plan: Plan, call: Call, signature: Signature) -> list[str]:
    """Return what the user calls each array of a call."""
    paths = [signature.describe(path) for path, _ in jtu.tree_flatten_with_path(call)[0]]
    return list(plan.arrays(paths))


def _on_arrays(plan: Plan, statics: tuple[Any, ...], function: Any, name: str) -> Callable[..., Any]:
    """Return the function of the arrays of a call that is to be traced."""
    treedef, place = plan.treedef, picker(plan.order)
    jit_boundary = object()

    def traced(*arrays: Any) -> Any:
        __tracebackhide__ = True
        _ = jit_boundary  # By this a check that is made in here knows where the program begins.
        own = () if function is None else (function(),)
        fun, args, kwargs = treedef.unflatten(place((*arrays, *statics, *own)))
        out = checked(fun)(*args, **kwargs)
        return pack(out, checked=check_in_trace())

    traced.__name__ = traced.__qualname__ = name
    traced.__dict__["jit_boundary"] = jit_boundary
    return traced


def _remember(table: dict[Any, Any], key: Any, value: Any) -> Any:
    """Return what the table holds under the key, now if not before; the oldest entry goes if they are too many."""
    found = table.get(key)
    if found is not None:
        return found
    if len(table) >= _LIMIT:
        del table[next(iter(table))]
    table[key] = value
    return value


def _kept(donate: str, treedef: Any) -> range:
    """Return which leaves of `(fun, args, kwargs)` are not donated."""
    if donate == "none":
        return range(treedef.num_leaves)
    fun, args, _ = treedef.children()
    if not donate.endswith("-except-first") or not args.children():
        return range(0)
    return range(fun.num_leaves, fun.num_leaves + args.children()[0].num_leaves)


def _key_function(statics: Sequence[int], kinds: set[type]) -> Callable[[Sequence[Any]], Hashable]:
    """Return the function that makes a key of the leaves at some indices, which are of these types."""
    if not statics:
        return len  # Any constant would do; this one is made in C.
    if _ATOMS.issuperset(kinds):
        # Given twice, a single index makes a tuple too.
        return operator.itemgetter(*statics) if len(statics) > 1 else operator.itemgetter(*statics, *statics)
    pick = picker(statics)
    return lambda leaves: tuple(map(_static_key, pick(leaves)))


def _static_key(leaf: Any) -> Hashable:
    if type(leaf) in _ATOMS:
        return leaf
    hash(leaf)
    return eqx_core.internal.typed_key(leaf)


def _unhashable(call: Call, signature: Signature) -> ValueError:
    for path, leaf in jtu.tree_flatten_with_path(call)[0]:
        try:
            _ = eqx_core.is_array(leaf) or hash(leaf)
        except TypeError as error:
            return ValueError(
                f"`filter_jit(fun)(...)` must get leaves that are arrays or hashable. Non-hashable static arguments "
                f"cannot be told apart; got {reprlib.repr(leaf)} of type `{type(leaf).__qualname__}` at "
                f"`{signature.describe(path)}` ({error}). Make it an array, a tuple or a frozenset, or give its class "
                f"a `__hash__` that goes with its `__eq__`.{_doctors_word(leaf)}"
            )
    return ValueError("`filter_jit(fun)(...)` must get leaves that are arrays or hashable; one changed its mind.")


def _doctors_word(leaf: Any) -> str:
    """Return what is wrong with a leaf, if that is known; most often it hides arrays."""
    found = eqx_core.tree_doctor(leaf, quiet=True)
    return f" `eqx_core.tree_doctor` says of it: {found[0].message}" if found else ""


def _name(fun: Any) -> str:
    """Return the name under which a program shows up in profiles."""
    while True:
        if isinstance(fun, (functools.partial, eqx_core.Partial)):
            fun = fun.func
        elif hasattr(fun, "__wrapped__"):
            fun = fun.__wrapped__
        else:
            return getattr(fun, "__name__", type(fun).__name__)


_OF_FUNCTION: "weakref.WeakKeyDictionary[Any, dict[Hashable, Cache]]" = weakref.WeakKeyDictionary()
_OF_PYTREES: dict[Hashable, Cache] = {}


def cache_of(fun: Callable[..., Any], donate: str, options: tuple[tuple[str, Any], ...]) -> Cache:
    """Return the cache for a callable: all equal callables have the same."""
    function = _function_in(fun)
    key = donate, eqx_core.internal.typed_key(options)
    with _LOCK:
        caches = _OF_PYTREES if function is None else _OF_FUNCTION.setdefault(function, {})
        if key not in caches:
            explained = _EXPLAIN_ALL or any(name == "explain" for name, _ in options)
            kind = ExplainedCache if explained else Cache
            caches[key] = kind(donate, dict(options), None if function is None else weakref.ref(function))
        return caches[key]


def _function_in(fun: Any) -> Any:
    """Return the function that `fun` is or wraps, if it is the first leaf of `fun` whatever else changes."""
    function = fun
    while isinstance(function, Transformed):
        function = function.__wrapped__
    if type(function) in _FUNCTIONS and jtu.tree_leaves(fun)[0] is function:
        return function
    return None


def _clear() -> None:
    with _LOCK:
        for caches in (_OF_PYTREES, *_OF_FUNCTION.values()):
            for cache in caches.values():
                cache.clear()


eqx_core.internal.register_cache(_clear)
