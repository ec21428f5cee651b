"""One step of a gated recurrent unit: `GRUCell`."""

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


class GRUCell(eqx_core.Module):
    """Update a hidden state by an input; run over a sequence by `jax.lax.scan`.

    The gates are stacked in the order reset, update, new.

    Attributes:
      weight_ih: `[3 * hidden_size, input_size]`.
      weight_hh: `[3 * hidden_size, hidden_size]`.
      bias: `[3 * hidden_size]`, or None.
      bias_n: `[hidden_size]`, or None: added to what the hidden state gives for the new gate, before it is reset.

    Source: Cho et al. (2014), arXiv:1406.1078, in the variant of cuDNN and PyTorch.
    """

    weight_ih: Array
    weight_hh: Array
    bias: Array | None
    bias_n: Array | None
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
          hidden_size: The size of the hidden state.
          use_bias: Whether to have biases.
          dtype: Of the parameters; by default float64 if 64 bits are enabled, else float32.
          weight_init: One of `jax.nn.initializers`, or any function `(key, shape, dtype) -> array`, in place of the law
            above. It sees `[input_size, hidden_size]`, then `[hidden_size, hidden_size]`: once
            for each gate.
          bias_init: Likewise; it sees the shape of each bias.
          key: Decides the values drawn.

        Raises:
          ValueError: An initialiser returns another shape or dtype than it is called with.
          TypeError: An initialiser cannot be called.

        Example:
          >>> cell = eqx_nn.GRUCell(2, 3, key=jr.key(0))
          >>> step = lambda hidden, x: (cell(x, hidden), None)
          >>> jax.lax.scan(step, jnp.zeros(3), jnp.ones((10, 2)))[0].shape
          (3,)
        """
        dtype = default_dtype(dtype)
        limit = math.sqrt(1 / hidden_size) if hidden_size else 1.0
        draw = Draw("GRUCell", weight_init, bias_init, dtype, limit)
        keys = jr.split(key, 4)
        self.weight_ih = draw.weight(keys[0], (3 * hidden_size, input_size), 3)
        self.weight_hh = draw.weight(keys[1], (3 * hidden_size, hidden_size), 3)
        self.bias = draw.bias(keys[2], (3 * hidden_size,)) if use_bias else None
        self.bias_n = draw.bias(keys[3], (hidden_size,)) if use_bias else None
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.use_bias = use_bias

    @jax.named_scope("eqx.nn.GRUCell")
    def __call__(self, input: Array, hidden: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """Return the new hidden state.

        Args:
          input: `[input_size]`.
          hidden: `[hidden_size]`.
          key: Ignored.

        Returns:
          `[hidden_size]`.

        Raises:
          ValueError: `input` or `hidden` has another shape.
        """
        check_vector("GRUCell", "input", input, self.input_size)
        check_vector("GRUCell", "hidden", hidden, self.hidden_size)
        from_input = self.weight_ih @ input
        if self.bias is not None:
            from_input = from_input + self.bias
        from_hidden = self.weight_hh @ hidden
        input_reset, input_update, input_new = jnp.split(from_input, 3)
        hidden_reset, hidden_update, hidden_new = jnp.split(from_hidden, 3)
        if self.bias_n is not None:
            hidden_new = hidden_new + self.bias_n
        reset = jax.nn.sigmoid(input_reset + hidden_reset)
        update = jax.nn.sigmoid(input_update + hidden_update)
        new = jnp.tanh(input_new + reset * hidden_new)
        return new + update * (hidden - new)
