"""Give the first contents of buffers the right gradient: `pass_where_unwritten`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core
import eqx_filter

from ._loop_state import Loop, held_fixed


def pass_where_unwritten(loop: Loop) -> Loop:
    """Return the same loop, with a gradient to the first contents of its buffers only where they are not overwritten.

    A step passes the cotangent of a buffer on as it is: to set it to zero where the step has written would copy the
    buffer in each step, as XLA does not see that it could be done in place. So at the start of the loop it is too large
    wherever something was written. Few loops start from contents that are being differentiated; for these alone it is
    found out, by two more runs, where that is.
    """
    mask = jtu.tree_map(lambda is_own, x: is_own and eqx_core.is_inexact_array(x), loop.is_own_buffer, loop.state)
    if not any(jtu.tree_leaves(mask)):
        return loop
    buffers, rest = eqx_filter.partition(loop.state, mask)
    # What these close over has to be an argument, to be seen by the rule.
    cond, body = (eqx_filter.filter_closure_convert(fun, loop.state) for fun in (loop.cond, loop.body))

    def last_contents(buffers: Any, rest: Any, cond: Any, body: Any) -> Any:
        state = eqx_filter.combine(buffers, rest)
        state = jax.lax.while_loop(lambda state: cond(state), lambda state: body(state), state)
        return eqx_filter.filter(state, mask)

    @eqx_filter.filter_custom_jvp
    def passed(buffers: Any, rest: Any, cond: Any, body: Any) -> Any:
        return buffers

    @passed.def_jvp
    def passed_jvp(primals: Any, tangents: Any) -> Any:
        if not jtu.tree_leaves(tangents[0]):
            return primals[0], tangents[0]
        # What is never written still holds what it held at first, of whatever two values that was.
        first, *others = held_fixed(primals)
        zeros, ones = (last_contents(jtu.tree_map(fill, first), *others) for fill in (jnp.zeros_like, jnp.ones_like))
        return primals[0], jtu.tree_map(_pass_where_unwritten, zeros, ones, tangents[0])

    return dataclasses.replace(
        loop,
        state=eqx_filter.combine(passed(buffers, rest, cond, body), rest),
        body=lambda state: body(state),
    )


def _pass_where_unwritten(zero: jax.Array, one: jax.Array, tangent: Any) -> Any:
    return None if tangent is None else jnp.where((zero == 0) & (one == 1), tangent, jnp.zeros_like(tangent))
