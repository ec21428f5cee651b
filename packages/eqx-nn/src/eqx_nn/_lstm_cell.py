"""One step of a long short-term memory: `LSTMCell`."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._check_vector import check_vector
from ._initialise import Draw, Initialiser
from ._uniform import default_dtype


class LSTMCell(eqx_core.Module):
    """Update a hidden and a cell state by an input; run over a sequence by `jax.lax.scan`.

    The gates are stacked in the order input, forget, cell, output.

    Attributes:
      weight_ih: `[4 * hidden_size, input_size]`.
      weight_hh: `[4 * hidden_size, hidden_size]`.
      bias: `[4 * hidden_size]`, or None.

    Source: Hochreiter, Schmidhuber (1997), with the forget gate of Gers, Schmidhuber, Cummins (2000).
    """

    weight_ih: Array
    weight_hh: Array
    bias: Array | None
    input_size: int = eqx_core.field(static=True)
    hidden_size: int = eqx_core.field(static=True)
    use_bias: bool = eqx_core.field(static=True)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        use_bias: bool = True,
        dtype: Any = None,
        *,
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
        key: PRNGKeyArray,
    ):
        """Draw all parameters from the uniform law on [-1/sqrt(hidden_size), 1/sqrt(hidden_size)).

        Args:
          input_size: The size of the input.
          hidden_size: The size of the hidden state, and of the cell state.
          use_bias: Whether to have a bias.
          dtype: Of the parameters; by default float64 if 64 bits are enabled, else float32.
          weight_init: One of `jax.nn.initializers`, or any function `(key, shape, dtype) -> array`, in place of the law
            above. It sees `[input_size, hidden_size]`, then `[hidden_size, hidden_size]`: once
            for each gate.
          bias_init: Likewise; it sees the shape of the bias.
          key: Decides the values drawn.

        Raises:
          ValueError: An initialiser returns another shape or dtype than it is called with.
          TypeError: An initialiser cannot be called.

        Example:
          >>> cell = eqx_nn.LSTMCell(2, 3, key=jr.key(0))
          >>> step = lambda state, x: (cell(x, state), None)
          >>> (hidden, _), _ = jax.lax.scan(step, (jnp.zeros(3), jnp.zeros(3)), jnp.ones((10, 2)))
          >>> hidden.shape
          (3,)
        """
        dtype = default_dtype(dtype)
        limit = math.sqrt(1 / hidden_size) if hidden_size else 1.0
        draw = Draw("LSTMCell", weight_init, bias_init, dtype, limit)
        keys = jr.split(key, 3)
        self.weight_ih = draw.weight(keys[0], (4 * hidden_size, input_size), 4)
        self.weight_hh = draw.weight(keys[1], (4 * hidden_size, hidden_size), 4)
        self.bias = draw.bias(keys[2], (4 * hidden_size,)) if use_bias else None
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.use_bias = use_bias

    @jax.named_scope("eqx.nn.LSTMCell")
    def __call__(
        self, input: Array, hidden: tuple[Array, Array], *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, Array]:
        """Return the new hidden state and cell state.

        Args:
          input: `[input_size]`.
          hidden: The hidden state `[hidden_size]` and the cell state `[hidden_size]`.
          key: Ignored.

        Returns:
          Two arrays `[hidden_size]`.

        Raises:
          ValueError: An array has another shape.
        """
        h, c = hidden
        for name, x, size in (("input", input, self.input_size), *(("hidden", x, self.hidden_size) for x in hidden)):
            check_vector("LSTMCell", name, x, size)
        # Transposed once before a scan, not in each of its steps.
        weight_ih, weight_hh = jax.lax.optimization_barrier((self.weight_ih.T, self.weight_hh.T))
        gates = input @ weight_ih + h @ weight_hh
        if self.bias is not None:
            gates = gates + self.bias
        i, f, g, o = jnp.split(gates, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c
