"""Take a step of a loop so that it can be pulled back later from as little as possible: `LinearStep`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.tree_util as jtu

import eqx_core
import eqx_filter

from ._jax_compat import eval_jaxpr
from ._jaxpr_slices import some_results, varying_results
from ._loop_state import LoopState
from ._perturbation import Body, linearised


class LinearStep:
    """A step that leaves behind what its pullback needs: its residuals.

    Of these, the ones that are the same in every step are computed once, and a buffer is left where it is: both are
    arguments of `pull`, beside what `record` returns for each step.

    Attributes:
      kept: The types of what `record` returns to be kept.
    """

    def __init__(self, body: Body, state: LoopState, is_buffer: LoopState, needed: tuple[Any, Any]):
        """Trace a step.

        Args:
          body: The step.
          state: A state like those it will get.
          is_buffer: Bools in the structure of `state`: which arrays are buffers.
          needed: Bools in the structure of `(body, state)`: for which arrays a cotangent is needed.
        """
        self._needed = needed
        arrays, self._static = eqx_filter.partition((body, state), eqx_core.is_array)
        leaves, self._treedef = jtu.tree_flatten(arrays)
        self._trace([jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves])
        self._sort_residuals(jtu.tree_leaves(is_buffer))

    def record(self, body: Body, state: LoopState) -> tuple[LoopState, list[Any]]:
        """Return the next state, and what `pull` needs to know of this step."""
        out = eval_jaxpr(self._forward.jaxpr, self._forward.consts, *jtu.tree_leaves(self._arrays(body, state)))
        number = len(out) - len(self._is_kept)
        return jtu.tree_unflatten(jtu.tree_structure(state), out[:number]), _select(self._is_kept, out[number:])

    def invariants(self, body: Body, state: LoopState) -> list[Any]:
        """Return what `pull` needs to know of all steps, whatever the state is."""
        return some_results(self._forward, self._asks_invariants, jtu.tree_leaves(self._arrays(body, state)))

    def pull(self, invariants: list[Any], kept: list[Any], state: LoopState, cotangent: Any) -> tuple[Any, Any]:
        """Return the cotangents of what the step closes over, and of the state before it, as far as they are needed.

        Args:
          invariants: What `invariants` has returned.
          kept: What `record` has returned for this step.
          state: A state, of which only the buffers are used.
          cotangent: That of the state after the step.
        """
        leaves = jtu.tree_leaves(state)
        left, recorded = iter(invariants), iter(kept)
        residuals = [
            next(recorded) if is_kept else next(left) if place is None else leaves[place]
            for is_kept, place in zip(self._is_kept, self._buffer, strict=True)
        ]
        out = eval_jaxpr(self._backward.jaxpr, self._backward.consts, *residuals, *jtu.tree_leaves(cotangent))
        return self._structure_of_bars.unflatten(out)

    def _arrays(self, body: Body, state: LoopState) -> Any:
        return eqx_filter.filter((body, state), eqx_core.is_array)

    def _trace(self, structs: list[Any]) -> None:
        """Trace the step, with its residuals, and the pullback."""
        treedefs: list[Any] = []

        def forward(leaves: list[Any]) -> tuple[LoopState, list[Any]]:
            body, state = eqx_filter.combine(self._treedef.unflatten(leaves), self._static)
            state, pull = linearised(body, state, self._needed, self._needed[1])
            residuals, treedef = jtu.tree_flatten(pull)
            treedefs[:] = [treedef]
            return state, residuals

        def backward(residuals: list[Any], cotangent: Any) -> Any:
            (bars,) = treedefs[0].unflatten(residuals)(cotangent)
            return bars

        self._forward, (state, residuals) = jax.make_jaxpr(forward, return_shape=True)(structs)
        cotangent = eqx_filter.filter(state, self._needed[1])
        self._backward, bars = jax.make_jaxpr(backward, return_shape=True)(residuals, cotangent)
        self._structure_of_bars = jtu.tree_structure(bars)

    def _sort_residuals(self, is_buffer: list[bool]) -> None:
        """Tell which residuals are to be kept for each step, which are buffers, and which are invariant."""
        jaxpr, size = self._forward.jaxpr, len(is_buffer)
        number = len(jaxpr.invars) - size
        varying = varying_results(self._forward, [False] * number + [True] * size)[size:]
        # A buffer is the same before and after the step, as far as the step may look at it.
        places = {
            id(var): i
            for variables in (jaxpr.invars[number:], jaxpr.outvars[:size])
            for i, var in enumerate(variables)
            if is_buffer[i]
        }
        self._buffer = [places.get(id(var)) for var in jaxpr.outvars[size:]]
        self._is_kept = [varies and place is None for varies, place in zip(varying, self._buffer, strict=True)]
        self._asks_invariants = [False] * size + [not varies for varies in varying]
        self.kept = _select(self._is_kept, self._forward.out_avals[size:])


def _select(flags: Sequence[bool], items: Sequence[Any]) -> list[Any]:
    return [item for item, flag in zip(items, flags, strict=True) if flag]
