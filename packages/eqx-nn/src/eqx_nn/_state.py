"""What layers remember from call to call: `State`, and the `StateIndex` by which a layer finds its part."""

import types
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core

from ._state_writes import marked

_Value = TypeVar("_Value")
_Model = TypeVar("_Model")
_P = ParamSpec("_P")


class _Deleted(eqx_core.Module):
    """Stand in for an initial value: it has no leaves, but remembers how many axes each array had."""

    axes: tuple[int, ...] = eqx_core.field(static=True)


class StateIndex(eqx_core.Module, Generic[_Value]):
    """Where in a `State` a layer finds one of its values; a layer holds one as a field.

    Attributes:
      marker: What the value goes by in the state: an object of its own at first, and by `make_with_state` the path to
        this index in the model, such as "Model.norm.batch_counter".
      init: The initial value; no longer there in a model from `make_with_state`.
    """

    marker: object = eqx_core.field(static=True)
    init: _Value | _Deleted

    def __init__(self, init: _Value):
        """Make an index for a value that starts as `init`, a PyTree of arrays.

        Raises:
          ValueError: `init` is a function.

        Example:
          >>> class Counter(eqx_nn.StatefulLayer):
          ...     calls: eqx_nn.StateIndex
          ...
          ...     def __init__(self):
          ...         self.calls = eqx_nn.StateIndex(jnp.array(0))
          ...
          ...     def __call__(self, x, state, *, key=None):
          ...         return x, state.set(self.calls, state.get(self.calls) + 1)
          >>> counter, state = eqx_nn.make_with_state(Counter)()
          >>> _, state = counter(1.0, state)
          >>> print(state.get(counter.calls))
          1
        """
        if isinstance(init, types.FunctionType):
            raise ValueError(
                f"`StateIndex(init=...)` must be the initial value itself; got the function `{init.__qualname__}`. "
                f"Call it: `StateIndex({init.__name__}())`."
            )
        self.marker = object()
        self.init = init


class State:
    """The values that the stateful layers of a model remember, by `StateIndex`: a PyTree, made by `make_with_state`.

    It is not changed in place: `set` and `update` return a new one. The old one can then no longer be used, so that an
    update cannot be lost unnoticed.
    """

    __slots__ = ("_values",)

    _values: dict[Any, Any] | None

    def __init__(self, model: Any):
        """Collect the initial values in a model; `make_with_state` does so.

        Raises:
          ValueError: The model comes from `make_with_state`, so it holds no initial values any more.
        """
        values = {}
        for index in _indices(model):
            if isinstance(index.init, _Deleted):
                raise ValueError(
                    f"`State(model)` must be given a model that holds its initial values; got one without, at "
                    f"`{index.marker}`. Make the model and its state together: `model, state = "
                    f"eqx.nn.make_with_state(Model)(...)`."
                )
            values[index.marker] = jtu.tree_map(_strong, index.init)
        self._values = values

    def get(self, index: StateIndex[_Value]) -> _Value:
        """Return the value at an index.

        Raises:
          ValueError: `index` is no `StateIndex`; the state is an old one; or the value has got a batch axis by mistake.
          KeyError: The state has no value at the index.
        """
        value = self._lookup(index, "get")
        _check_axes(index, value, "get")
        return value

    def set(self, index: StateIndex[_Value], value: _Value) -> "State":
        """Return a state with another value at an index. This one can no longer be used.

        Raises:
          ValueError: `index` is no `StateIndex`; the state is an old one; the value before has got a batch axis by
            mistake; or `value` is of another structure, shape or dtype than it.
          KeyError: The state has no value at the index.
        """
        old = self._lookup(index, "set")
        _check_axes(index, old, "set")
        value = jtu.tree_map(_strong, value)
        if _struct(old) != _struct(value):
            raise ValueError(
                f"`State.set(value=...)` must have the structure, shapes and dtypes of the value before, "
                f"`{eqx_core.tree_pformat(old)}`, at `{_name(index.marker)}`; got `{eqx_core.tree_pformat(value)}`. "
                f"Cast or reshape it, or make the initial value like it."
            )
        return self._replace({index.marker: marked(_name(index.marker), old, value)}, "set")

    def substate(self, pytree: Any) -> "State":
        """Return the part of the state that belongs to the layers in `pytree`. This one can still be used.

        Raises:
          ValueError: The state is an old one.
          KeyError: The state lacks a value of those layers.
        """
        return _make({index.marker: self._lookup(index, "substate") for index in _indices(pytree)})

    def update(self, substate: "State") -> "State":
        """Return a state with all values of `substate` put in. This one can no longer be used.

        Raises:
          TypeError: `substate` is no `State`.
          ValueError: One of the two states is an old one, or `substate` has values that this one has not.
        """
        if not isinstance(substate, State):
            raise TypeError(
                f"`State.update(substate=...)` must be a `State`; got `{type(substate).__qualname__}`. Make it by "
                f"`state.substate(layer)`."
            )
        values = substate._current("update")
        unknown = [_name(marker) for marker in values if marker not in self._current("update")]
        if unknown:
            raise ValueError(
                f"`State.update(substate=...)` must have no values but those of this state; got others, at "
                f"{', '.join(unknown)}. Make it by `state.substate(layer)`."
            )
        return self._replace(values, "update")

    def _current(self, method: str, marker: object = None) -> dict[Any, Any]:
        if self._values is None:
            at = "" if marker is None else f", for `{_name(marker)}`"
            raise ValueError(
                f"`State.{method}` must not be used on an old state, one that `set` or `update` has replaced; got one"
                f"{at}. Use the state that came back: `x, state = layer(x, state)`, not `x, new = layer(x, state)` and then "
                f"`state` again. To keep a copy on purpose, make it before: `jax.tree.map(lambda x: x, state)`."
            )
        return self._values

    def _lookup(self, index: Any, method: str) -> Any:
        if type(index) is not StateIndex:
            raise ValueError(
                f"`State.{method}(index=...)` must be a `StateIndex`; got `{type(index).__qualname__}`. A layer holds "
                f"one as a field: `self.calls = eqx.nn.StateIndex(jnp.array(0))`."
            )
        values = self._current(method, index.marker)
        if index.marker not in values:
            raise KeyError(
                f"`State.{method}`: there is no value for `{_name(index.marker)}`; the state belongs to another model."
            )
        return values[index.marker]

    def _replace(self, values: dict[Any, Any], method: str) -> "State":
        new = _make(self._current(method) | values)
        self._values = None
        return new

    def __repr__(self) -> str:
        if self._values is None:
            return "State(~old~)"
        items = (f"{_name(marker)}={eqx_core.tree_pformat(value)}" for marker, value in self._values.items())
        return f"State({', '.join(items)})"


def _make(values: dict[Any, Any]) -> State:
    state = object.__new__(State)
    state._values = values
    return state


def _flatten(state: State) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    values = state._current("tree_flatten")
    return tuple(values.values()), tuple(values)


def _flatten_with_keys(state: State) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
    children, markers = _flatten(state)
    return [(jtu.DictKey(m), child) for m, child in zip(markers, children, strict=True)], markers


def _unflatten(markers: tuple[Any, ...], children: Any) -> State:
    return _make(dict(zip(markers, children, strict=True)))


jtu.register_pytree_with_keys(State, _flatten_with_keys, _unflatten, _flatten)


def make_with_state(make_model: Callable[_P, _Model]) -> Callable[_P, tuple[_Model, State]]:
    """Return a function that makes a model together with its state.

    Args:
      make_model: A Module class, or any function that returns a PyTree with layers in it.

    Returns:
      A function of the same arguments that returns `(model, state)`. The model holds no initial values any more, so
      saving or differentiating it does not touch them.

    Example:
      >>> norm, state = eqx_nn.make_with_state(eqx_nn.BatchNorm)(input_size=3, axis_name="batch")
      >>> normalise = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
      >>> x, state = normalise(jnp.ones((8, 3)), state)
    """

    def make(*args: _P.args, **kwargs: _P.kwargs) -> tuple[_Model, State]:
        model = make_model(*args, **kwargs)
        root = type(model).__name__

        def named(path: Any, node: Any) -> Any:
            return _index(root + jtu.keystr(path), node.init) if _holds_init(node) else node

        model = jtu.tree_map_with_path(named, model, is_leaf=_is_index)
        return delete_init_state(model), State(model)

    return make


def delete_init_state(model: _Model) -> _Model:
    """Return a model without the initial values of its state, as `make_with_state` does.

    Example:
      >>> jax.tree.leaves(eqx_nn.delete_init_state(eqx_nn.StateIndex(jnp.array(0))))
      []
    """

    def deleted(node: Any) -> Any:
        if not _holds_init(node):
            return node
        return _index(node.marker, _Deleted(_axes(node)))

    return jtu.tree_map(deleted, model, is_leaf=_is_index)


def _is_index(node: Any) -> bool:
    return isinstance(node, StateIndex)


def _holds_init(node: Any) -> bool:
    return _is_index(node) and not isinstance(node.init, _Deleted)


def _indices(tree: Any) -> list[StateIndex]:
    return list(filter(_is_index, jtu.tree_leaves(tree, is_leaf=_is_index)))


def _index(marker: object, init: Any) -> StateIndex:
    index = StateIndex(init)
    object.__setattr__(index, "marker", marker)  # Nobody else has it yet.
    return index


def _name(marker: object) -> str:
    return marker if isinstance(marker, str) else "<unnamed>"


def _strong(leaf: Any) -> Any:
    """Return an array that is not weakly typed, so that updates never change the type of a `jax.lax.scan`'s carry."""
    return leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jnp.asarray(leaf, jnp.result_type(leaf))


def _struct(value: Any) -> Any:
    leaves, treedef = jtu.tree_flatten(value)
    return treedef, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _axes(index: StateIndex) -> tuple[int, ...]:
    """Return how many axes each array had at first."""
    return index.init.axes if isinstance(index.init, _Deleted) else tuple(map(jnp.ndim, jtu.tree_leaves(index.init)))


def _check_axes(index: StateIndex, value: Any, method: str) -> None:
    for leaf, axes in zip(jtu.tree_leaves(value), _axes(index), strict=True):
        if jnp.ndim(leaf) > axes:
            raise ValueError(
                f"`State.{method}(index=...)` must find an array with {axes} axes at `{_name(index.marker)}`; got "
                f"`{eqx_core.tree_pformat(leaf)}`: an earlier `vmap` has given the state a batch axis. Share the state in "
                f"that `vmap`: `in_axes=(0, None), out_axes=(0, None)` for `(x, state)`. If every member of the batch is "
                f"to have a state of its own, map over the state here too."
            )
