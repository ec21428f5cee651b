"""Do arithmetic on whole PyTrees: `(a**ω + 2 * b**ω).ω` adds leaf by leaf."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.tree_util as jtu

_SCALARS = (bool, int, float, complex, jax.Array)
_UPDATES = ("set", "add", "multiply", "divide", "power", "min", "max")


class _Metaω(type):
    # NumPy arrays would otherwise apply `** ω` to each of their elements.
    __array_ufunc__ = None

    def __rpow__(cls, tree: Any) -> "ω":
        return cls(tree)


def _binary(op: Callable[[Any, Any], Any]) -> Callable[["ω", Any], "ω"]:
    def method(self: "ω", other: Any) -> "ω":
        return self._with(other, op, op.__name__)

    return method


def _reflected(op: Callable[[Any, Any], Any]) -> Callable[["ω", Any], "ω"]:
    def method(self: "ω", other: Any) -> "ω":
        return self._with(other, lambda x, y: op(y, x), op.__name__)

    return method


def _unary(op: Callable[[Any], Any]) -> Callable[["ω"], "ω"]:
    def method(self: "ω") -> "ω":
        return self.call(op)

    return method


class ω(metaclass=_Metaω):
    """Wrap a PyTree so that operators apply to each of its leaves.

    The other operand is another `ω` of the same structure, or a Python scalar or JAX array for all leaves. NumPy arrays
    are refused: which of the two was to be mapped over would be a guess. Comparisons are leaf by leaf too, so that
    `a**ω == b**ω` is a tree of booleans and no truth value.

    Args:
      tree: Any PyTree. `tree**ω` is short for `ω(tree)`.
      is_leaf: As in `jax.tree.map`; the results of operators keep it. Two operands must have the same one.

    Raises:
      ValueError: The two structures, or the two `is_leaf`, differ.
      RuntimeError: The other operand is neither an `ω` nor a scalar nor a JAX array.

    Example:
      >>> from eqx_core.internal import ω
      >>> tree = {"a": 1.0, "b": (2.0, 3.0)}
      >>> (tree**ω * 2 + tree**ω).ω
      {'a': 3.0, 'b': (6.0, 9.0)}
    """

    __array_ufunc__ = None
    __slots__ = ("__weakref__", "is_leaf", "ω")

    def __init__(self, tree: Any, is_leaf: Callable[[Any], bool] | None = None):
        self.ω = tree
        self.is_leaf = is_leaf

    __add__, __radd__ = _binary(operator.add), _reflected(operator.add)
    __sub__, __rsub__ = _binary(operator.sub), _reflected(operator.sub)
    __mul__, __rmul__ = _binary(operator.mul), _reflected(operator.mul)
    __matmul__, __rmatmul__ = _binary(operator.matmul), _reflected(operator.matmul)
    __truediv__, __rtruediv__ = _binary(operator.truediv), _reflected(operator.truediv)
    __floordiv__, __rfloordiv__ = _binary(operator.floordiv), _reflected(operator.floordiv)
    __mod__, __rmod__ = _binary(operator.mod), _reflected(operator.mod)
    __pow__, __rpow__ = _binary(operator.pow), _reflected(operator.pow)
    __lshift__, __rlshift__ = _binary(operator.lshift), _reflected(operator.lshift)
    __rshift__, __rrshift__ = _binary(operator.rshift), _reflected(operator.rshift)
    __and__, __rand__ = _binary(operator.and_), _reflected(operator.and_)
    __or__, __ror__ = _binary(operator.or_), _reflected(operator.or_)
    __xor__, __rxor__ = _binary(operator.xor), _reflected(operator.xor)
    __lt__, __le__ = _binary(operator.lt), _binary(operator.le)
    __gt__, __ge__ = _binary(operator.gt), _binary(operator.ge)
    __neg__, __pos__ = _unary(operator.neg), _unary(operator.pos)
    __abs__, __invert__ = _unary(operator.abs), _unary(operator.invert)
    __hash__ = object.__hash__
    # `__getitem__` alone would make Python iterate, without an end where JAX clamps the index.
    __iter__ = None
    __contains__ = None

    def __eq__(self, other: object) -> "ω":  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._with(other, operator.eq, "eq")

    def __ne__(self, other: object) -> "ω":  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._with(other, operator.ne, "ne")

    def __getitem__(self, item: Any) -> "ω":
        return self.call(lambda x: x[item])

    def __bool__(self) -> bool:
        raise TypeError(
            "`ω.__bool__()` must not be asked for: operators on ω give one result for each leaf. "
            "Unwrap it with `.ω`, and use `jax.tree.all` or `eqx_core.tree_equal`."
        )

    def __repr__(self) -> str:
        return f"ω({self.ω})"

    def call(self, fn: Callable[[Any], Any]) -> "ω":
        """Apply `fn` to each leaf."""
        return ω(jtu.tree_map(fn, self.ω, is_leaf=self.is_leaf), self.is_leaf)

    @property
    def at(self) -> "_At":
        """Update part of each leaf: `tree**ω .at[item].set(value)`, and `add`, `multiply`, `divide`, `power`, `min`, `max`.

        `value` is an `ω` of the same structure, or a scalar or JAX array for all leaves.
        """
        return _At(self)

    def _with(self, other: Any, fn: Callable[[Any, Any], Any], name: str) -> "ω":
        if isinstance(other, ω):
            return self._zip(other, fn, name)
        if isinstance(other, _SCALARS):
            return self.call(lambda x: fn(x, other))
        raise RuntimeError(
            f"`ω.{name}(other=...)` must have another ω, a Python scalar or a JAX array as its other operand; got "
            f"`{type(other).__name__}`. Wrap a PyTree in ω, and a NumPy value in `jnp.asarray`."
        )

    def _zip(self, other: "ω", fn: Callable[[Any, Any], Any], name: str) -> "ω":
        if not _same_function(self.is_leaf, other.is_leaf):
            raise ValueError(
                f"`ω.{name}(other=...)` must have operands of the same `is_leaf`; got `{_name_of(self.is_leaf)}` and "
                f"`{_name_of(other.is_leaf)}`. Wrap both as `ω(tree, is_leaf=...)` with one function."
            )
        leaves, treedef = jtu.tree_flatten(self.ω, is_leaf=self.is_leaf)
        others, other_treedef = jtu.tree_flatten(other.ω, is_leaf=other.is_leaf)
        if treedef != other_treedef:
            where = _where_they_differ(self, other)
            raise ValueError(
                f"`ω.{name}(other=...)` must have operands of the same structure; got {where}. "
                "To broadcast one value over a tree, leave it unwrapped."
            )
        return ω(treedef.unflatten(map(fn, leaves, others)), self.is_leaf)


class _At:
    """What `ω.at` returns."""

    __slots__ = ("_wrapped",)

    def __init__(self, wrapped: ω):
        self._wrapped = wrapped

    def __getitem__(self, item: Any) -> "_AtItem":
        return _AtItem(self._wrapped, item)


class _AtItem:
    """What `ω.at[item]` returns: methods that replace that part of each leaf."""

    __slots__ = ("_item", "_wrapped")

    def __init__(self, wrapped: ω, item: Any):
        self._wrapped = wrapped
        self._item = item

    def _update(self, name: str, value: Any) -> ω:
        def update(leaf: Any, part: Any) -> Any:
            return getattr(leaf.at[self._item], name)(part)

        return self._wrapped._with(value, update, f"at[...].{name}")

    def set(self, value: Any) -> ω:
        return self._update("set", value)

    def add(self, value: Any) -> ω:
        return self._update("add", value)

    def multiply(self, value: Any) -> ω:
        return self._update("multiply", value)

    def divide(self, value: Any) -> ω:
        return self._update("divide", value)

    def power(self, value: Any) -> ω:
        return self._update("power", value)

    def min(self, value: Any) -> ω:
        return self._update("min", value)

    def max(self, value: Any) -> ω:
        return self._update("max", value)


def _same_function(first: Any, second: Any) -> bool:
    # A lambda that is written twice is two functions, of the same bytecode.
    if first is second or first is None or second is None:
        return first is second
    if not (hasattr(first, "__code__") and hasattr(second, "__code__")):
        return first == second
    return _behaviour(first) == _behaviour(second)


def _behaviour(function: Any) -> tuple[Any, ...]:
    code = function.__code__
    cells = tuple(id(cell.cell_contents) for cell in function.__closure__ or ())
    constants = tuple(map(repr, code.co_consts))
    return code.co_code, constants, code.co_names, cells, function.__defaults__


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _where_they_differ(first: ω, second: ω) -> str:
    def paths(wrapped: ω) -> dict[str, None]:
        flat, _ = jtu.tree_flatten_with_path(wrapped.ω, is_leaf=wrapped.is_leaf)
        return dict.fromkeys(jtu.keystr(path) for path, _ in flat)

    mine, theirs = paths(first), paths(second)
    for here, there, side in ((mine, theirs, "first"), (theirs, mine, "second")):
        for path in here:
            if path not in there:
                return f"a leaf at `{path or 'the root'}` in the {side} only"
    return "the same leaves in nodes of different types or static values"
