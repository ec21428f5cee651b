"""Arrays that a loop fills in place, each location once: `Buffer`, `MaybeBuffer`, `buffer_at_set`."""

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp

import eqx_core

from ._maybe_set import maybe_set


class Buffer(eqx_core.Module):
    """What `cond_fun` and `body_fun` of a loop get in the place of an array that `buffers` picks out.

    It is no array. It offers `buffer[item]`, which may read only what has been written, and `buffer.at[item].set(x)`,
    which may write each location once.

    Attributes:
      array: The array itself.
      pred: `bool[]`. Whether the step is one of this element of the batch; true if it is not batched.
    """

    array: Any
    pred: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape

    @property
    def dtype(self) -> Any:
        """The dtype of the array."""
        return self.array.dtype

    @property
    def size(self) -> int:
        """The number of entries of the array."""
        return self.array.size

    @property
    def ndim(self) -> int:
        """The number of axes of the array."""
        return self.array.ndim

    def __getitem__(self, item: Any) -> jax.Array:
        return self.array[item]

    @property
    def at(self) -> "_At":
        """As of an array, with `set` alone: `buffer.at[item].set(x)`."""
        return _At(self)


class _At:
    """`buffer.at`."""

    __slots__ = ("_buffer",)

    def __init__(self, buffer: Buffer):
        self._buffer = buffer

    def __getitem__(self, item: Any) -> "_Place":
        return _Place(self._buffer, item)


class _Place:
    """`buffer.at[item]`."""

    __slots__ = ("_buffer", "_item")

    def __init__(self, buffer: Buffer, item: Any):
        self._buffer = buffer
        self._item = item

    def set(self, x: Any, *, pred: Any = True, **kwargs: Any) -> Buffer:
        """Return the buffer with `x` written to the place, if `pred` is true.

        Args:
          x: What can be broadcast to the shape of the place, of a dtype that promotes to that of the buffer.
          pred: `bool[]`.
          **kwargs: As of `array.at[item].set`.

        Raises:
          ValueError: The dtype does not promote to that of the buffer.
        """
        buffer = self._buffer
        x = _as_entry(buffer.array, self._item, x, kwargs)
        may_be_false = pred is not True
        merged = jnp.logical_and(buffer.pred, pred) if may_be_false else buffer.pred
        array = maybe_set(merged, buffer.array, self._item, x, may_be_false=may_be_false, options=kwargs)
        return Buffer(array, buffer.pred)


def buffer_at_set(buffer: Any, item: Any, x: Any, *, pred: Any = True, **kwargs: Any) -> Any:
    """Return `buffer.at[item].set(x, pred=pred)`, be it a buffer of a loop or an array.

    Args:
      buffer: An array, or what stands for one inside of a loop with `buffers`.
      item: An index: ints, slices, arrays of ints, or a tuple of these.
      x: What can be broadcast to the shape of `buffer[item]`, of a dtype that promotes to that of the buffer.
      pred: `bool[]`. Where it is false the buffer stays as it is.
      **kwargs: As of `array.at[item].set`.

    Raises:
      ValueError: The dtype of `x` does not promote to that of the buffer.

    Example:
      >>> print(buffer_at_set(jnp.zeros(3), 1, 5.0, pred=True))
      [0. 5. 0.]
    """
    if isinstance(buffer, Buffer):
        return buffer.at[item].set(x, pred=pred, **kwargs)
    x = _as_entry(buffer, item, x, kwargs)
    if pred is True:
        return buffer.at[item].set(x, **kwargs)
    return maybe_set(jnp.asarray(pred), buffer, item, x, may_be_false=True, options=kwargs)


def _as_entry(array: Any, item: Any, x: Any, options: dict[str, Any]) -> jax.Array:
    """Return `x` with the shape and dtype of `array[item]`."""
    x = jnp.asarray(x)
    with jax.numpy_dtype_promotion("standard"):
        promoted = x.dtype if x.dtype == array.dtype else jnp.result_type(x, array)
    if promoted != array.dtype:
        raise ValueError(
            f"`buffer.at[...].set(x=...)` must have a dtype that promotes to that of the buffer, which is "
            f"`{array.dtype}`; got `{x.dtype}`. Convert it by `.astype(buffer.dtype)`, or make the buffer one of "
            f"`{promoted}`."
        )
    entry = jax.eval_shape(lambda array: array.at[item].get(**options), array)
    return jnp.broadcast_to(x if x.dtype == array.dtype else x.astype(array.dtype), entry.shape)


if TYPE_CHECKING:
    _T = TypeVar("_T")
    MaybeBuffer: TypeAlias = _T | Buffer
else:

    class _MaybeBufferMeta(type):
        """Lets `isinstance(x, MaybeBuffer[T])` look at the array inside of a buffer."""

        kind = None

        def __getitem__(cls, kind: Any) -> type:
            return _MaybeBufferMeta(f"MaybeBuffer[{getattr(kind, '__name__', kind)}]", (), {"kind": kind})

        def __instancecheck__(cls, instance: Any) -> bool:
            array = instance.array if isinstance(instance, Buffer) else instance
            return eqx_core.is_array(array) if cls.kind is None else isinstance(array, cls.kind)

    class MaybeBuffer(metaclass=_MaybeBufferMeta):
        """The annotation of what is an array outside of a loop and a buffer inside: `MaybeBuffer[jax.Array]`.

        `isinstance(x, MaybeBuffer[T])` is `isinstance(x, T)` of the array, which of a buffer is the one inside.

        Example:
          >>> isinstance(jnp.ones(2), MaybeBuffer[jax.Array]), isinstance(1.0, MaybeBuffer[jax.Array])
          (True, False)
        """
