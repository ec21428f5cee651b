"""Let a string pass through JAX: `str2jax`."""

from typing import Any

import wadler_lindig as wl

from .._module import Module


def str2jax(msg: str) -> Any:
    """Return an object without leaves that prints as `msg`.

    Two calls give two objects that are unequal, even for one `msg`: call it once, at module level.

    Args:
      msg: What `str` and `repr` of the result are.

    Returns:
      A Module. It is its own PyTree structure and so passes through `jax.jit` and the other transforms.

    Raises:
      TypeError: `msg` is not a string.

    Example:
      >>> from eqx_core.internal import str2jax
      >>> jax.jit(lambda x: x)(str2jax("nothing to see"))
      nothing to see
    """
    if not isinstance(msg, str):
        raise TypeError(f"`str2jax(msg=...)` must be a string; got `{type(msg).__name__}`. Write `str2jax(str(msg))`.")

    class Message(Module):
        def __repr__(self) -> str:
            return msg

        def __pdoc__(self, **kwargs: Any) -> wl.AbstractDoc:
            return wl.TextDoc(msg)

    # The class's name is what a PyTree structure shows.
    Message.__name__ = Message.__qualname__ = msg.encode("utf-8", "replace").decode().replace("\0", "?")
    return Message()
