"""Switch a whole model between training and inference: `inference_mode`."""

from collections.abc import Iterator
from typing import Any, TypeVar

import jax.tree_util as jtu

import eqx_core

_Tree = TypeVar("_Tree")


def inference_mode(pytree: _Tree, value: bool = True) -> _Tree:
    """Return a copy of a model in which every attribute called `inference` is set.

    The attribute makes `Dropout` drop nothing and `BatchNorm` use its running statistics. Layers of your own take part
    if they have a field of that name that is not static.

    Args:
      pytree: Any PyTree, such as a model, or one half of a partitioned one.
      value: True for inference, False for training.

    Raises:
      TypeError: An attribute of that name is not a leaf of the PyTree, but a static field or computed.

    Example:
      >>> model = eqx_nn.Sequential([eqx_nn.Dropout(0.5), eqx_nn.Identity()])
      >>> print(eqx_nn.inference_mode(model)(jnp.ones(3)))
      [1. 1. 1.]
    """
    if not list(_flags(pytree)):
        return pytree
    return eqx_core.tree_at(
        lambda tree: tuple(_flags(tree)), pytree, replace_fn=lambda _: value, is_leaf=lambda x: x is None
    )


tree_inference = inference_mode


def _flags(tree: Any) -> Iterator[Any]:
    """Yield every attribute called `inference`, those of nodes below one that has it too."""
    for node in jtu.tree_leaves(tree, is_leaf=_has_flag):
        if _has_flag(node):
            yield node.inference
            children = eqx_core.tree_flatten_one_level(node)[0]
            for child in children:
                if child is not node:
                    yield from _flags(child)


def _has_flag(node: Any) -> bool:
    return hasattr(node, "inference")
