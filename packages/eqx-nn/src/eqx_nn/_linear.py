"""Affine maps: `Linear`, and `Identity`, which stands where a map may be left out."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, PRNGKeyArray

import eqx_core

from ._initialise import Draw, Initialiser
from ._uniform import default_dtype


class Linear(eqx_core.Module):
    """Map a vector to `weight @ x + bias`.

    It takes one example, not a batch: map it with `jax.vmap`.

    Attributes:
      weight: `[out_features, in_features]`.
      bias: `[out_features]`, or None.
    """

    weight: Array
    bias: Array | None
    in_features: int | Literal["scalar"] = eqx_core.field(static=True)
    out_features: int | Literal["scalar"] = eqx_core.field(static=True)
    use_bias: bool = eqx_core.field(static=True)

    def __init__(
        self,
        in_features: int | Literal["scalar"],
        out_features: int | Literal["scalar"],
        use_bias: bool = True,
        dtype: Any = None,
        *,
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
        key: PRNGKeyArray,
    ):
        """Draw weight and bias from the uniform law on [-1/sqrt(in_features), 1/sqrt(in_features)).

        Args:
          in_features: The size of the input, at least 0; "scalar" for inputs of shape `()`.
          out_features: The size of the output, likewise.
          use_bias: Whether to add a bias.
          dtype: Of weight and bias, floating or complex; by default float64 if 64 bits are enabled, else float32.
          weight_init: One of `jax.nn.initializers`, or any function `(key, shape, dtype) -> array`, in place of the law
            above. It sees `[in_features, out_features]`; its result is transposed.
          bias_init: Likewise; it sees `[out_features]`.
          key: Decides the values drawn.

        Raises:
          ValueError: A size is neither "scalar" nor an integer of at least 0; or an initialiser returns another shape or
            dtype than it is called with.
          TypeError: An initialiser cannot be called.

        Example:
          >>> linear = eqx_nn.Linear(3, 2, key=jr.key(0))
          >>> linear(jnp.ones(3)).shape
          (2,)
          >>> jax.vmap(linear)(jnp.ones((8, 3))).shape
          (8, 2)

        Source: He, Zhang, Ren, Sun (2015), with the constants that PyTorch uses.
        """
        dtype = default_dtype(dtype)
        inputs, outputs = _size(in_features, "in_features"), _size(out_features, "out_features")
        limit = 1 / math.sqrt(inputs) if inputs else 1.0
        weight_key, bias_key = jr.split(key, 2)
        draw = Draw("Linear", weight_init, bias_init, dtype, limit)
        self.weight = draw.weight(weight_key, (outputs, inputs))
        self.bias = draw.bias(bias_key, (outputs,)) if use_bias else None
        self.in_features = in_features
        self.out_features = out_features
        self.use_bias = use_bias

    @jax.named_scope("eqx.nn.Linear")
    def __call__(self, x: ArrayLike, *, key: PRNGKeyArray | None = None) -> Array:
        """Return `weight @ x + bias`.

        Args:
          x: `[in_features]`, or `[]` if that is "scalar".
          key: Ignored.

        Returns:
          `[out_features]`, or `[]` if that is "scalar".

        Raises:
          ValueError: `x` has another shape.
        """
        scalar = self.in_features == "scalar"
        expected = () if scalar else (self.in_features,)
        if jnp.shape(x) != expected:
            raise ValueError(
                f"`Linear.__call__(x)` must have shape `{'()' if scalar else '(in_features,)'}` = `{expected}`; got "
                f"`{eqx_core.tree_pformat(x)}`. To apply it to a batch, use `jax.vmap(linear)(x)`."
            )
        out = self.weight @ (jnp.broadcast_to(x, (1,)) if scalar else x)
        if self.bias is not None:
            out = out + self.bias
        return jnp.reshape(out, ()) if self.out_features == "scalar" else out


def _size(features: int | Literal["scalar"], name: str) -> int:
    if features == "scalar":
        return 1
    if isinstance(features, str) or not hasattr(features, "__index__") or features < 0:
        raise ValueError(
            f'`Linear({name}=...)` must be an integer of at least 0, or "scalar"; got `{features!r}`. '
            f"Give the length of the vectors."
        )
    return features


class Identity(eqx_core.Module):
    """Return the input as it is.

    Example:
      >>> eqx_nn.Identity()(2)
      2
    """

    def __init__(self, *args: Any, **kwargs: Any):
        """Accept any arguments, and ignore them, so that it can stand in for any layer."""

    @jax.named_scope("eqx.nn.Identity")
    def __call__(self, x: Any, *, key: PRNGKeyArray | None = None) -> Any:
        """Return `x`, which may be anything; `key` is ignored."""
        return x
