"""Call layers one after the other: `Sequential`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import jax
import jax.random as jr
from jaxtyping import PRNGKeyArray

from ._stateful_layer import StatefulLayer
from ._unset import UNSET


class Sequential(StatefulLayer):
    """Call layers one after the other, each on the output of the one before.

    Attributes:
      layers: A tuple of callables `layer(x, key=...)`, or `layer(x, state=..., key=...)` if stateful. Wrap a plain
        function in `Lambda`.
    """

    layers: tuple[Callable[..., Any], ...]

    def __init__(self, layers: Sequence[Callable[..., Any]]):
        """Take the layers, in order.

        Example:
          >>> first, last = jr.split(jr.key(0))
          >>> model = eqx_nn.Sequential(
          ...     [
          ...         eqx_nn.Linear(2, 8, key=first),
          ...         eqx_nn.Lambda(jax.nn.relu),
          ...         eqx_nn.Linear(8, 3, key=last),
          ...     ]
          ... )
          >>> model(jnp.ones(2)).shape
          (3,)
          >>> model[0].weight.shape
          (8, 2)
        """
        self.layers = tuple(layers)

    @jax.named_scope("eqx.nn.Sequential")
    def __call__(self, x: Any, state: Any = UNSET, *, key: PRNGKeyArray | None = None) -> Any:
        """Return the output of the last layer, with the new state if one is given.

        Args:
          x: The first layer's input.
          state: For the stateful layers; see `make_with_state`.
          key: Split into one key for each layer.

        Returns:
          The output, or `(output, new_state)` if a state is given.

        Raises:
          ValueError: A layer is stateful, but no state is given.
        """
        keys = [None] * len(self.layers) if key is None else jr.split(key, len(self.layers))
        current = state
        for i, (layer, layer_key) in enumerate(zip(self.layers, keys, strict=True)):
            if isinstance(layer, StatefulLayer) and layer.is_stateful():
                if state is UNSET:
                    raise ValueError(
                        f"`Sequential.__call__(state=...)` must be given, because `layers[{i}]` is a stateful layer; "
                        f"got none. Make the model by `model, state = make_with_state(...)(...)`, and call it by "
                        f"`out, state = model(x, state)`."
                    )
                x, current = layer(x, state=current, key=layer_key)
            else:
                x = layer(x, key=layer_key)
        return x if state is UNSET else (x, current)

    def is_stateful(self) -> bool:
        """Return whether any of the layers is stateful."""
        return any(isinstance(layer, StatefulLayer) and layer.is_stateful() for layer in self.layers)

    @overload
    def __getitem__(self, index: int) -> Callable[..., Any]: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...

    def __getitem__(self, index: int | slice) -> Callable[..., Any]:
        """Return one layer, or for a slice a `Sequential` of several.

        Raises:
          TypeError: `index` is neither an integer nor a slice.
          IndexError: There are not so many layers.
        """
        if isinstance(index, slice):
            return Sequential(self.layers[index])
        if hasattr(index, "__index__"):
            return self.layers[index]
        raise TypeError(
            f"`Sequential[index]` must be an integer or a slice; got `{type(index).__name__}`. To reach into a layer, "
            f"index again: `model[0].weight`."
        )

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        """Return an iterator over the layers."""
        return iter(self.layers)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)
