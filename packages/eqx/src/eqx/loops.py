"""Differentiable loops, under the name that programs use: all of `eqx_loops`."""

import eqx_loops as eqx_loops
