"""Draw a layer's parameters by an initialiser of the user's choice, or by the layer's own law."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._uniform import uniform

# Called as `init(key, shape, dtype)`: any function of `jax.nn.initializers`.
Initialiser = Callable[..., Array]


@dataclasses.dataclass(frozen=True)
class Draw:
    """How a layer draws its parameters.

    Attributes:
      layer: What the layer is called, for errors.
      weight_init, bias_init: As given to the layer; None for the uniform law on [-limit, limit).
      dtype: Of the parameters.
      limit: Of the uniform law.
    """

    layer: str
    weight_init: Initialiser | None
    bias_init: Initialiser | None
    dtype: Any
    limit: float

    def weight(self, key: PRNGKeyArray, shape: tuple[int, ...], blocks: int = 1) -> Array:
        """Return a weight `[out, in, *kernel]`; see `draw_weight`."""
        if self.weight_init is None:
            return uniform(key, shape, self.dtype, self.limit)
        return draw_weight(self.weight_init, key, shape, self.dtype, f"{self.layer}(weight_init=...)", blocks)

    def bias(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
        """Return a bias `[out, 1, ..., 1]`, whose initialiser sees `[out]`."""
        if self.bias_init is None:
            return uniform(key, shape, self.dtype, self.limit)
        return draw(self.bias_init, key, shape[:1], self.dtype, f"{self.layer}(bias_init=...)").reshape(shape)


def draw_weight(
    init: Initialiser, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any, argument: str, blocks: int = 1
) -> Array:
    """Return a weight `[out, in, *kernel]` whose initialiser sees `[*kernel, in, out / blocks]`.

    That is the order that the functions of `jax.nn.initializers` expect, so that they find the true fan.

    Args:
      init: The initialiser.
      key: Is split if there is more than one block.
      shape: Of the weight.
      dtype: Of the weight.
      argument: What the user calls the initialiser, for errors.
      blocks: How many maps of their own are stacked along the first axis: groups of channels, or gates.
    """
    outputs, inputs, *kernel = shape

    def draw_block(key: PRNGKeyArray) -> Array:
        drawn = draw(init, key, (*kernel, inputs, outputs // blocks), dtype, argument)
        return jnp.moveaxis(drawn, (-1, -2), (0, 1))

    return draw_block(key) if blocks == 1 else jax.vmap(draw_block)(jr.split(key, blocks)).reshape(shape)


def draw(init: Initialiser, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any, argument: str) -> Array:
    """Return what an initialiser draws, if it is an array as asked for.

    Raises:
      TypeError: `init` cannot be called.
      ValueError: It returns anything else.
    """
    if not callable(init):
        raise TypeError(
            f"`{argument}` must be a function `(key, shape, dtype) -> array`; got `{type(init).__qualname__}`. Give one "
            f"of `jax.nn.initializers`, such as `jax.nn.initializers.he_normal()`."
        )
    drawn = init(key, shape, dtype)
    if not isinstance(drawn, jax.Array) or drawn.shape != shape or drawn.dtype != dtype:
        wanted = eqx_core.tree_pformat(jax.ShapeDtypeStruct(shape, dtype), struct_as_array=True)
        raise ValueError(
            f"`{argument}` must return an array of the shape and dtype that it is called with, `{wanted}`; got "
            f"`{eqx_core.tree_pformat(drawn)}`. Some of `jax.nn.initializers` are to be called first: `he_normal()`, not "
            f"`he_normal`."
        )
    return drawn
