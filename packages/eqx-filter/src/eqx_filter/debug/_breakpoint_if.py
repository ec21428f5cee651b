"""Open a debugger inside of a compiled program if something is amiss: `breakpoint_if`."""

from typing import Any

import jax
import jax.core
import numpy as np

from .._jax_compat import hide_from_tracebacks
from .._unvmap import unvmap_any

hide_from_tracebacks(__file__)


def breakpoint_if(pred: Any, **kwargs: Any) -> Any:
    """Open the debugger of JAX when the program runs if `pred` is true.

    Args:
      pred: A bool, or an array of bools, any of which may be true, in any entry of a batch.
      **kwargs: Passed on to `jax.debug.breakpoint`.

    Returns:
      `token`, if that is among the keyword arguments, so that what depends on it comes afterwards; otherwise None.

    Example:
      >>> eqx_filter.debug.breakpoint_if(jnp.isnan(jnp.ones(3)))
    """
    token = kwargs.get("token")
    if not isinstance(pred, jax.core.Tracer):
        if np.asarray(pred).any():
            jax.debug.breakpoint(**kwargs)
        return token

    def stop(token: Any) -> Any:
        jax.debug.breakpoint(**kwargs | ({} if token is None else {"token": token}))
        return token

    return jax.lax.cond(unvmap_any(pred), stop, lambda token: token, token)
