"""Make a layer of a function: `Lambda`."""

from collections.abc import Callable
from typing import Any

from jaxtyping import PRNGKeyArray

import eqx_core


class Lambda(eqx_core.Module):
    """Call a function, as a layer for `Sequential`.

    Attributes:
      fn: A function of one argument. If it is a PyTree that holds arrays, they are parameters.

    Example:
      >>> relu = eqx_nn.Lambda(jax.nn.relu)
      >>> print(relu(jnp.array([-1.0, 1.0])))
      [0. 1.]
    """

    fn: Callable[[Any], Any]

    def __call__(self, x: Any, *, key: PRNGKeyArray | None = None) -> Any:
        """Return `fn(x)`; `key` is ignored."""
        return self.fn(x)
