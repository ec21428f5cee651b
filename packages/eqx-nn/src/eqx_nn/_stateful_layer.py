"""The interface of layers that read and update a `State`: `StatefulLayer`."""

from collections.abc import Callable
from typing import Any

import eqx_core


class StatefulLayer(eqx_core.Module):
    """Base class of layers that are called as `layer(x, state, key=...)` and return `(out, new_state)`.

    `Sequential` tells by it which layers want the state.

    Example:
      >>> class Same(eqx_nn.StatefulLayer):
      ...     def __call__(self, x, state, *, key=None):
      ...         return x, state
      >>> Same().is_stateful()
      True
    """

    __call__: eqx_core.AbstractClassVar[Callable[..., Any]]

    def is_stateful(self) -> bool:
        """Return whether this layer wants the state: True, unless a subclass knows better."""
        return True
