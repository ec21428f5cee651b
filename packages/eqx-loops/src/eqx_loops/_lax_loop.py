"""The loop that can be differentiated in forward mode only: `lax_while_loop`."""

import jax

from ._loop_state import Loop, LoopState


def lax_while_loop(loop: Loop) -> LoopState:
    """Return the last state of a loop, by `jax.lax.while_loop`."""
    return jax.lax.while_loop(loop.cond, loop.body, loop.state)
