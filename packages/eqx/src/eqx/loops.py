"""Differentiable loops, under the name that programs use: all of `eqx_loops`."""

from eqx_loops import __version__ as __version__
