"""Keep a layer's Lipschitz constant at one: `SpectralNorm`."""

from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._state import State, StateIndex
from ._stateful_layer import StatefulLayer

_Layer = TypeVar("_Layer")
_FIRST_ITERATIONS = 15


class SpectralNorm(StatefulLayer, Generic[_Layer]):
    """Call a layer with its weight divided by the weight's largest singular value.

    The value is found by power iteration; the state holds the singular vectors found so far. A weight of more than two axes
    is seen as a matrix of its first axis and all others.

    Attributes:
      layer: The layer.
      uv_index: Where the two singular vectors are in the state.
      inference: Whether to leave them as they are.

    Source: Miyato, Kataoka, Koyama, Yoshida (2018), arXiv:1802.05957.
    """

    layer: _Layer
    weight_name: str = eqx_core.field(static=True)
    uv_index: StateIndex[tuple[Array, Array]]
    num_power_iterations: int = eqx_core.field(static=True)
    eps: float = eqx_core.field(static=True)
    inference: bool

    def __init__(
        self,
        layer: _Layer,
        weight_name: str,
        num_power_iterations: int = 1,
        eps: float = 1e-12,
        inference: bool = False,
        *,
        key: PRNGKeyArray,
    ):
        """Find the singular vectors by 15 iterations from random ones.

        Args:
          layer: Any callable Module with a weight.
          weight_name: What the layer calls it.
          num_power_iterations: How many iterations to do at each call in training.
          eps: The least norm by which is divided.
          inference: Whether to do none.
          key: Decides the vectors to start from.

        Raises:
          ValueError: The weight has fewer than two axes.

        Example:
          >>> def make(key):
          ...     return eqx_nn.SpectralNorm(eqx_nn.Linear(2, 3, key=key), "weight", key=key)
          >>> layer, state = eqx_nn.make_with_state(make)(jr.key(0))
          >>> out, state = layer(jnp.ones(2), state)
        """
        weight = getattr(layer, weight_name)
        if weight.ndim < 2:
            raise ValueError(
                f"`SpectralNorm(layer=...)` must have a weight of at least two axes; got "
                f"`{eqx_core.tree_pformat(weight)}` as `{weight_name}`. Leave a vector as it is."
            )
        self.layer = layer
        self.weight_name = weight_name
        self.num_power_iterations = num_power_iterations
        self.eps = eps
        self.inference = inference
        matrix = _as_matrix(weight)
        u_key, v_key = jr.split(key)
        u, v = jr.normal(u_key, matrix.shape[:1], weight.dtype), jr.normal(v_key, matrix.shape[1:], weight.dtype)
        self.uv_index = StateIndex(_iterated(matrix, u, v, _FIRST_ITERATIONS, eps))

    @jax.named_scope("eqx.nn.SpectralNorm")
    def __call__(
        self, x: Any, state: State, *, key: PRNGKeyArray | None = None, inference: bool | None = None
    ) -> tuple[Any, State]:
        """Return the layer's output and the new state.

        Args:
          x: The layer's input.
          state: From `make_with_state`, or from the call before.
          key: Ignored.
          inference: Whether to iterate no more; by default as in the layer.
        """
        weight = getattr(self.layer, self.weight_name)
        matrix = _as_matrix(weight)
        u, v = state.get(self.uv_index)
        if not (self.inference if inference is None else inference):
            u, v = _iterated(jax.lax.stop_gradient(matrix), u, v, self.num_power_iterations, self.eps)
            state = state.set(self.uv_index, (u, v))
        sigma = jnp.sum(u * (matrix @ v))
        layer: Any = eqx_core.tree_at(lambda layer: getattr(layer, self.weight_name), self.layer, weight / sigma)
        return layer(x), state


def _as_matrix(weight: Array) -> Array:
    return weight.reshape(weight.shape[0], -1)


def _iterated(matrix: Array, u: Array, v: Array, steps: int, eps: float) -> tuple[Array, Array]:
    for _ in range(steps):
        u = _unit(matrix @ v, eps)
        v = _unit(matrix.T @ u, eps)
    return u, v


def _unit(x: Array, eps: float) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x), eps)
