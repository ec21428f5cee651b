"""Draw some parameters of a model anew: `reinit`."""

import fnmatch
import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._conv import Conv
from ._conv_transpose import ConvTranspose
from ._embedding import Embedding
from ._gru_cell import GRUCell
from ._initialise import Initialiser, draw, draw_weight
from ._linear import Linear
from ._lstm_cell import LSTMCell

_Model = TypeVar("_Model")
_KNOWN = (Linear, Conv, ConvTranspose, Embedding, GRUCell, LSTMCell)


class _Leaf(NamedTuple):
    """A leaf of a model.

    Attributes:
      path: Where, such as "layers.0.weight".
      name: The last part of it.
      nodes: What it is in: the model first, the layer that holds it last.
      value: The leaf.
    """

    path: str
    name: str
    nodes: tuple[Any, ...]
    value: Any


def reinit(
    model: _Model,
    where: str | type | Callable[[_Model], Any],
    init: Initialiser,
    *,
    key: PRNGKeyArray,
) -> _Model:
    """Return a copy of a model with some of its parameters drawn anew.

    What a parameter becomes depends on `key` and its own path, and not on which others are drawn with it.

    Args:
      model: Any PyTree. A `jax.ShapeDtypeStruct` that is chosen becomes an array.
      where: Which parameters: a pattern for their paths, in which `*` stands for any text, such as "layers.*.weight"; a
        class, for the weights of its instances, and of the layers in them; or a function from the model to parameters or
        layers, as for `eqx.tree_at`. Of a layer it is the weights, not the biases.
      init: One of `jax.nn.initializers`, or any function `(key, shape, dtype) -> array`. It sees shapes as that of the
        layer's own `weight_init` does, so that it finds the true fan. A parameter of a module that is not from here it
        sees as it is.
      key: Decides the values drawn. Layers that were stacked by `jax.vmap` get one each.

    Raises:
      ValueError: `where` chooses nothing, or something else than floating or complex arrays; or `init` returns another
        shape or dtype than it is called with.
      TypeError: `init` cannot be called; or `where` is none of the three.

    Example:
      >>> mlp = eqx_nn.MLP(2, 3, width_size=8, depth=2, key=jr.key(0))
      >>> orthogonal = eqx_nn.reinit(mlp, eqx_nn.Linear, jax.nn.initializers.orthogonal(), key=jr.key(1))
      >>> zero = eqx_nn.reinit(mlp, "layers.*.bias", jax.nn.initializers.zeros, key=jr.key(1))
      >>> last = eqx_nn.reinit(mlp, lambda m: m.layers[-1], jax.nn.initializers.he_normal(), key=jr.key(1))
    """
    leaves = list(_leaves(model))
    chosen = _chosen(model, leaves, where)
    if not any(chosen):
        raise ValueError(
            f"`reinit(where=...)` must choose at least one parameter; got {_short(where)}, which chooses none. The paths "
            f"are {_some([leaf.path for leaf in leaves if _is_parameter(leaf.value)])}."
        )
    drawn = [_drawn(leaf, init, key) if new else leaf.value for leaf, new in zip(leaves, chosen, strict=True)]
    return jtu.tree_unflatten(jtu.tree_structure(model), drawn)


def _leaves(node: Any, path: tuple[Any, ...] = (), nodes: tuple[Any, ...] = ()) -> Iterator[_Leaf]:
    for keys, child in jtu.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)[0]:
        if keys:
            yield from _leaves(child, (*path, *keys), (*nodes, node))
        else:
            yield _Leaf(_keystr(path), _keystr(path[-1:]), nodes, child)


def _keystr(path: tuple[Any, ...]) -> str:
    return jtu.keystr(path, simple=True, separator=".")


def _chosen(model: Any, leaves: list[_Leaf], where: Any) -> list[bool]:
    """Return for each leaf whether it is to be drawn anew."""
    if isinstance(where, str):
        return [fnmatch.fnmatchcase(leaf.path, where) and _is_parameter(leaf.value) for leaf in leaves]
    if isinstance(where, type):
        return [_is_weight(leaf, where) for leaf in leaves]
    if not callable(where):
        raise TypeError(
            f"`reinit(where=...)` must be a pattern for paths, a class, or a function; got `{type(where).__qualname__}`. "
            f'Write "*.weight", `eqx.nn.Linear` or `lambda model: model.layers[0]`.'
        )
    nothing = jtu.tree_map(lambda _: False, model)
    picked = jtu.tree_leaves(eqx_core.tree_at(where, nothing, replace_fn=_picked))
    for leaf, is_picked in zip(leaves, picked, strict=True):
        if is_picked and not _is_parameter(leaf.value):
            raise ValueError(
                f"`reinit(where=...)` must choose floating or complex arrays; got `{eqx_core.tree_pformat(leaf.value)}` "
                f"at `{leaf.path}`. Use `eqx.tree_at` for what is no parameter."
            )
    return picked


def _picked(node: Any) -> Any:
    """Return True for a leaf; else the node, with its weights True."""
    if jtu.treedef_is_leaf(jtu.tree_structure(node)):
        return True
    marks = [leaf.name.startswith("weight") and isinstance(leaf.nodes[-1], _KNOWN) for leaf in _leaves(node)]
    return jtu.tree_unflatten(jtu.tree_structure(node), marks)


def _is_weight(leaf: _Leaf, kind: type) -> bool:
    """Tell whether a leaf is a weight of an instance of a class, or of a layer from here that is in one."""
    if not leaf.nodes or not _is_parameter(leaf.value) or not leaf.name.startswith("weight"):
        return False
    owner = leaf.nodes[-1]
    return isinstance(owner, kind) or (isinstance(owner, _KNOWN) and any(isinstance(node, kind) for node in leaf.nodes))


def _is_parameter(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _drawn(leaf: _Leaf, init: Initialiser, key: PRNGKeyArray) -> Array:
    """Return a new value for a leaf."""
    number = int.from_bytes(hashlib.sha256(leaf.path.encode()).digest()[:4], "big")
    key = jr.fold_in(key, number)
    draw_one, axes = _law(leaf, init)
    shape = leaf.value.shape
    stacked = shape[: len(shape) - axes]
    if not stacked:
        return draw_one(key, shape)
    keys = jr.split(key, math.prod(stacked))
    return jax.vmap(lambda key: draw_one(key, shape[len(stacked) :]))(keys).reshape(shape)


def _law(leaf: _Leaf, init: Initialiser) -> tuple[Callable[..., Array], int]:
    """Return how to draw a parameter of some shape, and how many axes it has if it is not stacked."""
    owner = leaf.nodes[-1] if leaf.nodes else None
    dtype, argument = leaf.value.dtype, f"reinit(init=...)` for `{leaf.path}"
    kernel = owner.num_spatial_dims if isinstance(owner, (Conv, ConvTranspose)) else 0

    def weight(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
        return draw_weight(init, key, shape, dtype, argument, _blocks(owner))

    def bias(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
        return draw(init, key, shape[:1], dtype, argument).reshape(shape)

    def as_it_is(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
        return draw(init, key, shape, dtype, argument)

    if not isinstance(owner, _KNOWN):
        return as_it_is, len(leaf.value.shape)
    if isinstance(owner, Embedding):
        return as_it_is, 2
    return (weight, 2 + kernel) if leaf.name.startswith("weight") else (bias, 1 + kernel)


def _blocks(layer: Any) -> int:
    """Return how many maps of their own are stacked along the first axis of a layer's weights."""
    if isinstance(layer, (Conv, ConvTranspose)):
        return layer.groups
    return 3 if isinstance(layer, GRUCell) else 4 if isinstance(layer, LSTMCell) else 1


def _short(where: Any) -> str:
    return (
        repr(where) if isinstance(where, str) else f"`{where.__qualname__}`" if hasattr(where, "__qualname__") else "it"
    )


def _some(paths: list[str]) -> str:
    shown = ", ".join(f'"{path}"' for path in paths[:6])
    return shown + (f" and {len(paths) - 6} more" if len(paths) > 6 else "") if paths else "none"
