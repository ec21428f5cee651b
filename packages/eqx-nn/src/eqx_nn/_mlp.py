"""Multilayer perceptron: `MLP`."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike, PRNGKeyArray

import eqx_core
import eqx_filter

from ._initialise import Initialiser
from ._linear import Linear


def _identity(x: Any) -> Any:
    return x


class MLP(eqx_core.Module):
    """Apply `depth + 1` linear layers, with an activation after each.

    Activations are applied to each neuron alone: they see arrays of shape `()`. One that holds arrays, such as `PReLU`,
    is copied for every neuron, so each of them learns its own.

    Attributes:
      layers: The `depth + 1` layers, in order; with `scan`, and a depth of at least 1, the first one, the hidden ones
        stacked along a new first axis of size `depth - 1`, and the last one.
      activation: Its arrays have leading axes `[depth, width_size]`.
      final_activation: Its arrays have a leading axis `[out_size]`, unless that is "scalar".
    """

    layers: tuple[Linear, ...]
    activation: Callable[[Array], Array]
    final_activation: Callable[[Array], Array]
    use_bias: bool = eqx_core.field(static=True)
    use_final_bias: bool = eqx_core.field(static=True)
    in_size: int | Literal["scalar"] = eqx_core.field(static=True)
    out_size: int | Literal["scalar"] = eqx_core.field(static=True)
    width_size: int = eqx_core.field(static=True)
    depth: int = eqx_core.field(static=True)
    scan: bool = eqx_core.field(static=True)

    def __init__(
        self,
        in_size: int | Literal["scalar"],
        out_size: int | Literal["scalar"],
        width_size: int,
        depth: int,
        activation: Callable[[Array], Array] = jax.nn.relu,
        final_activation: Callable[[Array], Array] = _identity,
        use_bias: bool = True,
        use_final_bias: bool = True,
        dtype: Any = None,
        *,
        scan: bool = False,
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
        key: PRNGKeyArray,
    ):
        """Make the layers, each as `Linear` does.

        Args:
          in_size: The size of the input; "scalar" for inputs of shape `()`.
          out_size: The size of the output; "scalar" for outputs of shape `()`.
          width_size: The size of each hidden layer.
          depth: The number of hidden layers, at least 0; for 0 there is one linear map and the final activation.
          activation: Follows each hidden layer.
          final_activation: Follows the last layer, also at depth 0.
          use_bias: Whether hidden layers have a bias.
          use_final_bias: Whether the last layer has one.
          dtype: Of the parameters; by default float64 if 64 bits are enabled, else float32.
          scan: Whether to run the hidden layers by `jax.lax.scan`, which compiles faster when they are many. The
            outputs are the same.
          weight_init: As for `Linear`, in all layers.
          bias_init: Likewise.
          key: Decides the initial parameters.

        Raises:
          ValueError: `depth` is negative, or a size is not valid for `Linear`.

        Example:
          >>> mlp = eqx_nn.MLP(in_size=2, out_size="scalar", width_size=16, depth=2, key=jr.key(0))
          >>> jax.vmap(mlp)(jnp.ones((8, 2))).shape
          (8,)
        """
        if depth < 0:
            raise ValueError(f"`MLP(depth=...)` must be at least 0; got {depth}. Give the number of hidden layers.")
        keys = jr.split(key, depth + 1)
        sizes = [in_size, *[width_size] * depth]

        linear = functools.partial(Linear, dtype=dtype, weight_init=weight_init, bias_init=bias_init)

        def make_hidden(i: int) -> Linear:
            return linear(sizes[i], width_size, use_bias, key=keys[i])

        last = linear(sizes[-1], out_size, use_final_bias, key=keys[-1])
        if scan and depth:
            stack = jax.vmap(lambda key: linear(width_size, width_size, use_bias, key=key))(keys[1:depth])
            self.layers = (make_hidden(0), stack, last)
        else:
            self.layers = (*map(make_hidden, range(depth)), last)
        self.activation = _copies(activation, (depth, width_size))
        self.final_activation = final_activation if out_size == "scalar" else _copies(final_activation, (out_size,))
        self.use_bias = use_bias
        self.use_final_bias = use_final_bias
        self.in_size = in_size
        self.out_size = out_size
        self.width_size = width_size
        self.depth = depth
        self.scan = scan

    @jax.named_scope("eqx.nn.MLP")
    def __call__(self, x: ArrayLike, *, key: PRNGKeyArray | None = None) -> Array:
        """Return the output for one example.

        Args:
          x: `[in_size]`, or `[]` if that is "scalar".
          key: Ignored.

        Returns:
          `[out_size]`, or `[]` if that is "scalar".

        Raises:
          ValueError: `x` has another shape.
        """
        if self.scan and self.depth:
            hidden = self._scan_hidden(x)
        else:
            hidden = x
            for i, layer in enumerate(self.layers[:-1]):
                hidden = _each_neuron(_slice(self.activation, i), layer(hidden))
        out = self.layers[-1](hidden)
        return self.final_activation(out) if self.out_size == "scalar" else _each_neuron(self.final_activation, out)

    def _scan_hidden(self, x: ArrayLike) -> Array:
        first, stack, _ = self.layers
        x = _each_neuron(_slice(self.activation, 0), first(x))
        stacked = (stack, _slice(self.activation, slice(1, None)))
        arrays, others = eqx_filter.partition(stacked, eqx_core.is_array)

        def step(x: Array, arrays: Any) -> tuple[Array, None]:
            layer, activation = eqx_filter.combine(arrays, others)
            return _each_neuron(activation, layer(x)), None

        return jax.lax.scan(step, x, arrays)[0]


def _copies(activation: Callable[[Array], Array], axes: tuple[int, ...]) -> Callable[[Array], Array]:
    """Return the activation with its arrays repeated along new leading axes."""
    return _map_arrays(lambda array: jnp.broadcast_to(array, axes + array.shape), activation)


def _slice(activation: Callable[[Array], Array], index: int | slice) -> Callable[[Array], Array]:
    return _map_arrays(lambda array: array[index], activation)


def _map_arrays(function: Callable[[Array], Array], tree: Any) -> Any:
    arrays, others = eqx_filter.partition(tree, eqx_core.is_array)
    return eqx_filter.combine(jtu.tree_map(function, arrays), others)


def _each_neuron(activation: Callable[[Array], Array], x: Array) -> Array:
    """Apply an activation whose arrays have one entry per neuron."""
    return eqx_filter.filter_vmap(lambda activation, x: activation(x))(activation, x)
