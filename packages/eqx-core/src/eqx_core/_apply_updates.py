"""Add the updates of an optimiser to a model."""

from typing import Any, TypeVar

import jax.tree_util as jtu

from ._short import short

_Model = TypeVar("_Model")


def apply_updates(model: _Model, updates: Any) -> _Model:
    """Return `model` with `updates` added to it, leaf by leaf.

    Args:
      model: The PyTree to update, usually a Module.
      updates: A prefix of `model`. Where it is None, that part of the model stays the same object.

    Returns:
      A PyTree of the structure of `model`, with `model_leaf + update` for every update. The usual promotion of `+` applies:
      a `bfloat16` parameter and a `float32` update give `float32`.

    Raises:
      TypeError: The update cannot be added to that part of the model.
      ValueError: `updates` is not a prefix of `model`.

    Example:
      >>> apply_updates((1.0, "name"), (0.5, None))
      (1.5, 'name')
    """

    leaves, structure = jtu.tree_flatten(updates, is_leaf=lambda x: x is None)
    try:
        parts = structure.flatten_up_to(model)
    except ValueError as error:
        raise ValueError(
            f"`apply_updates(updates=...)` must be a prefix of `model`; got another structure, {short(updates)}. Pass what the"
            " optimiser made of gradients of this very model, with None where nothing changes."
        ) from error
    return structure.unflatten([p if u is None else p + u for p, u in zip(parts, leaves, strict=True)])
