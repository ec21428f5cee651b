"""Normalise over a batch: `BatchNorm`."""

from collections.abc import Hashable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

import eqx_core

from ._standardise import affine, widen
from ._state import State, StateIndex
from ._stateful_layer import StatefulLayer
from ._uniform import default_dtype


class BatchNorm(StatefulLayer):
    """Shift and scale each channel to mean 0 and variance 1 over a batch, then by `weight` and `bias`.

    It takes one example, under a `jax.vmap` whose `axis_name` is the layer's, with the state shared by all examples:
    `jax.vmap(layer, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)`. In inference it needs neither,
    and uses the running statistics instead.

    Attributes:
      weight: `[input_size]`, or None.
      bias: `[input_size]`, or None.
      ema_first_time_index, ema_state_index: Where the state of mode "ema" is: whether nothing has been seen yet, and the
        running mean and variance.
      batch_counter, batch_state_index: Where the state of mode "batch" is: the number of batches seen, and the sums that
        the running mean and variance are computed from.
      axis_name: Of the batch; several names to normalise over all of those axes.
      inference: Whether to use the running statistics, and leave them as they are.

    Source: Ioffe, Szegedy (2015), arXiv:1502.03167; the correction for the first batches is that of Kingma, Ba (2015).
    """

    weight: Array | None
    bias: Array | None
    ema_first_time_index: StateIndex[Array] | None
    ema_state_index: StateIndex[tuple[Array, Array]] | None
    batch_counter: StateIndex[Array] | None
    batch_state_index: StateIndex[tuple[Array, Array]] | None
    axis_name: Hashable | Sequence[Hashable]
    inference: bool
    input_size: int = eqx_core.field(static=True)
    eps: float = eqx_core.field(static=True)
    channelwise_affine: bool = eqx_core.field(static=True)
    momentum: float = eqx_core.field(static=True)
    mode: Literal["ema", "batch"] = eqx_core.field(static=True)

    def __init__(
        self,
        input_size: int,
        axis_name: Hashable | Sequence[Hashable],
        eps: float = 1e-5,
        channelwise_affine: bool = True,
        momentum: float = 0.99,
        inference: bool = False,
        dtype: Any = None,
        mode: Literal["ema", "batch"] = "batch",
    ):
        """Make a weight of ones, a bias of zeros, and the initial state.

        Args:
          input_size: The number of channels.
          axis_name: What the mapped axis is called.
          eps: Added to the variance.
          channelwise_affine: Whether to have weight and bias.
          momentum: How much of the running statistics each batch leaves as it was.
          inference: Whether to use the running statistics.
          dtype: Of parameters and state; by default float64 if 64 bits are enabled, else float32.
          mode: "batch" normalises by the statistics of the batch, as is usual. Its running variance starts from 1, so that
            inference overestimates the variance by `momentum**n / (1 - momentum**n)` after `n` batches. "ema" normalises by the running
            statistics in training too, which start as those of the first batch; before that they are 0.

        Raises:
          ValueError: `mode` is none of the two.

        Example:
          >>> norm, state = eqx_nn.make_with_state(eqx_nn.BatchNorm)(input_size=3, axis_name="batch")
          >>> train = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
          >>> x, state = train(jr.normal(jr.key(0), (8, 3)), state)
          >>> inference = eqx_nn.inference_mode(norm)
          >>> out, _ = inference(jnp.ones(3), state)
        """
        if mode not in ("ema", "batch"):
            raise ValueError(
                f'`BatchNorm(mode=...)` must be "batch" or "ema"; got {mode!r}. Leave it out for "batch", the usual one.'
            )
        dtype = default_dtype(dtype)
        zeros = jnp.zeros(input_size, dtype)
        ema, ones = mode == "ema", jnp.ones(input_size, dtype)
        self.weight, self.bias = affine((input_size,), channelwise_affine, channelwise_affine, dtype)
        self.ema_first_time_index = StateIndex(jnp.array(True)) if ema else None
        self.ema_state_index = StateIndex((zeros, zeros)) if ema else None
        self.batch_counter = None if ema else StateIndex(jnp.array(0))
        self.batch_state_index = None if ema else StateIndex((zeros, ones))
        self.axis_name = axis_name
        self.inference = inference
        self.input_size = input_size
        self.eps = eps
        self.channelwise_affine = channelwise_affine
        self.momentum = momentum
        self.mode = mode

    @jax.named_scope("eqx.nn.BatchNorm")
    def __call__(
        self, x: Array, state: State, *, key: PRNGKeyArray | None = None, inference: bool | None = None
    ) -> tuple[Array, State]:
        """Return the normalised example and the new state.

        Args:
          x: `[input_size, ...]`.
          state: From `make_with_state`, or from the call before.
          key: Ignored.
          inference: Whether to use the running statistics; by default as in the layer.

        Returns:
          An array of the shape and dtype of `x`, and the state: the same for every example of the batch.

        Raises:
          ValueError: `x` has another number of channels; or the state is an old one, or has a batch axis.
          NameError: In training, without an axis of that name.
        """
        shape = jnp.shape(x)
        if not shape or shape[0] != self.input_size:
            raise ValueError(
                f"`BatchNorm.__call__(x)` must have shape `(input_size, ...)` = `({self.input_size}, ...)`; got "
                f"`{eqx_core.tree_pformat(x)}`. Map it over the batch with `jax.vmap`, whose `axis_name` is the layer's."
            )
        wide = widen(x)
        training = not (self.inference if inference is None else inference)
        statistics = self._batch_statistics(wide) if training else None
        update = self._update_ema if self.mode == "ema" else self._update_batch
        (mean, variance), state = update(state, statistics)
        # One multiplication and one addition an entry; the rest is done once a channel.
        scale = jax.lax.rsqrt(jnp.real(variance).astype(jnp.finfo(wide.dtype).dtype) + self.eps).astype(wide.dtype)
        if self.weight is not None:
            scale = scale * self.weight.astype(wide.dtype)
        shift = -mean.astype(wide.dtype) * scale
        if self.bias is not None:
            shift = shift + self.bias.astype(wide.dtype)
        per_channel = (self.input_size, *[1] * (len(shape) - 1))
        out = wide * scale.reshape(per_channel) + shift.reshape(per_channel)
        return out.astype(x.dtype), state

    def _batch_statistics(self, x: Array) -> tuple[Array, Array]:
        """Return mean and variance of each channel over the batch."""
        axes = tuple(range(1, x.ndim))
        mean = jax.lax.pmean(jnp.mean(x, axes), self.axis_name)
        centred = x - mean.reshape(-1, *[1] * len(axes))
        variance = jax.lax.pmean(jnp.mean(jnp.real(centred * jnp.conj(centred)), axes), self.axis_name)
        return mean, variance

    def _update_ema(self, state: Any, statistics: Any) -> tuple[Any, State]:
        running = state.get(self.ema_state_index)
        if statistics is None:
            return running, state
        first = state.get(self.ema_first_time_index)
        running = tuple(
            jnp.where(first, new, self._mixed(old, new))
            for old, new in zip(running, _like(statistics, running), strict=True)
        )
        state = state.set(self.ema_first_time_index, jnp.array(False))
        return running, state.set(self.ema_state_index, running)

    def _update_batch(self, state: Any, statistics: Any) -> tuple[Any, State]:
        counter, hidden = state.get(self.batch_counter), state.get(self.batch_state_index)
        if statistics is None:
            # The hidden values are sums over batches of weights that themselves sum up to this.
            total = jnp.where(counter == 0, 1.0, 1 - self.momentum ** counter.astype(hidden[1].dtype))
            return tuple(value / total.astype(value.dtype) for value in hidden), state
        mixed = tuple(map(self._mixed, hidden, _like(statistics, hidden)))
        state = state.set(self.batch_counter, counter + 1)
        return statistics, state.set(self.batch_state_index, mixed)

    def _mixed(self, old: Array, new: Array) -> Array:
        return self.momentum * old + (1 - self.momentum) * new


def _like(statistics: tuple[Array, ...], state: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(new.astype(old.dtype) for new, old in zip(statistics, state, strict=True))
