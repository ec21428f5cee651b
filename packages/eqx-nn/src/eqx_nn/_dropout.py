"""Drop entries at random while training: `Dropout`."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

import eqx_core


class Dropout(eqx_core.Module):
    """Replace each entry by 0 with probability `p`, and divide the others by `1 - p`.

    Attributes:
      p: The probability, from 0 to 1. It is a leaf, so that `eqx.tree_at` can change it.
      inference: Whether to return inputs as they are. It is a leaf; `inference_mode` sets it in a whole model.

    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov (2014).
    """

    p: float | Array
    inference: bool

    def __init__(self, p: float | Array = 0.5, inference: bool = False, *, deterministic: bool | None = None):
        """Remember the probability.

        Args:
          p: How likely an entry is dropped.
          inference: Whether to drop nothing.
          deterministic: The old name of `inference`, deprecated.

        Raises:
          ValueError: `p` is a number below 0 or above 1.

        Example:
          >>> dropout = eqx_nn.Dropout(0.5)
          >>> print(dropout(jnp.ones(4), key=jr.key(0)))
          [0. 0. 2. 2.]
          >>> print(dropout(jnp.ones(4), inference=True))
          [1. 1. 1. 1.]
        """
        if isinstance(p, (int, float)) and not 0 <= p <= 1:
            raise ValueError(
                f"`Dropout(p=...)` must be a probability, from 0 to 1; got {p}. Give 0.1 for ten per cent."
            )
        if deterministic is not None:
            inference = _renamed("Dropout", deterministic)
        self.p = p
        self.inference = inference

    @property
    def deterministic(self) -> bool:
        """The old name of `inference`."""
        return self.inference

    @jax.named_scope("eqx.nn.Dropout")
    def __call__(
        self,
        x: Array,
        *,
        key: PRNGKeyArray | None = None,
        inference: bool | None = None,
        deterministic: bool | None = None,
    ) -> Array:
        """Return `x` with some entries dropped.

        Args:
          x: Of any shape.
          key: Decides which entries; needed unless in inference, or `p` is the number 0.
          inference: Whether to drop nothing; by default as at construction.
          deterministic: The old name of `inference`, deprecated.

        Returns:
          An array of the same shape.

        Raises:
          RuntimeError: There is no `key`, but one is needed.
        """
        if deterministic is not None:
            inference = _renamed("Dropout.__call__", deterministic)
        if inference is None:
            inference = self.inference
        known = isinstance(self.p, (int, float))
        if inference or (known and self.p == 0):
            return x
        if key is None:
            raise RuntimeError(
                "`Dropout.__call__(key=...)` must be given in training; got None. Pass a key that has not been used, "
                "or set `inference=True` (in a whole model: `eqx.nn.inference_mode(model)`)."
            )
        if known and self.p == 1:
            return jnp.zeros_like(x)  # What follows would divide by 0.
        keep: Any = 1 - jax.lax.stop_gradient(self.p)
        kept = jr.bernoulli(key, keep, jnp.shape(x))
        if not known:
            keep = jnp.asarray(keep, x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else None)
        return jnp.where(kept, x / keep, 0)


def _renamed(name: str, deterministic: bool) -> bool:
    warnings.warn(
        f"`{name}(deterministic=...)` is deprecated in favour of `{name}(inference=...)`.",
        stacklevel=3,
    )
    return deterministic
