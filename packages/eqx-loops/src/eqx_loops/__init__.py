"""Differentiable loops for JAX."""

from importlib.metadata import version

__version__ = version("eqx-loops")
