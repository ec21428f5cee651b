"""Learn the length of a weight apart from its direction: `WeightNorm`."""

import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

import eqx_core

_Layer = TypeVar("_Layer", bound=Callable[..., Any])


class WeightNorm(eqx_core.Module, Generic[_Layer]):
    """Call a layer with the weight `g * v / norm(v)`, where `v` is the layer's own weight.

    Attributes:
      layer: The layer, which holds `v`.
      g: The norms, with axes of size 1 where `v` is normalised.

    Source: Salimans, Kingma (2016), arXiv:1602.07868.
    """

    layer: _Layer
    g: Array
    weight_name: str = eqx_core.field(static=True)
    axis: int | None = eqx_core.field(static=True)
    _norm: Callable[[Array], Array]

    def __init__(self, layer: _Layer, weight_name: str = "weight", axis: int | None = 0):
        """Start from norms with which nothing changes.

        Args:
          layer: Any callable Module with a weight.
          weight_name: What the layer calls it.
          axis: The axis of the weight along which each slice has a norm of its own; None for one norm of all.

        Example:
          >>> linear = eqx_nn.Linear(2, 3, key=jr.key(0))
          >>> normed = eqx_nn.WeightNorm(linear)
          >>> normed.g.shape
          (3, 1)
        """
        self.layer = layer
        self.weight_name = weight_name
        self.axis = axis
        self._norm = _norm_along(axis)
        self.g = self._norm(getattr(layer, weight_name))

    @jax.named_scope("eqx.nn.WeightNorm")
    def __call__(self, x: Any, *, key: PRNGKeyArray | None = None) -> Any:
        """Return the layer's output.

        Args:
          x: The layer's input.
          key: Ignored.
        """
        v = getattr(self.layer, self.weight_name)
        weight = v * (self.g / self._norm(v))
        layer = eqx_core.tree_at(lambda layer: getattr(layer, self.weight_name), self.layer, weight)
        return layer(x)


@functools.cache
def _norm_along(axis: int | None) -> Callable[[Array], Array]:
    """Return the function that computes norms; the same one each time, so that equal layers are equal."""

    def norm(weight: Array) -> Array:
        axes = None if axis is None else [i for i in range(weight.ndim) if i != axis % weight.ndim]
        return jnp.sqrt(jnp.sum(jnp.real(weight * jnp.conj(weight)), axes, keepdims=True)).astype(weight.dtype)

    return norm
