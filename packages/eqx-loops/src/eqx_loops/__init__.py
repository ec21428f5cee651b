"""Differentiable loops for JAX."""

from importlib.metadata import version

from . import internal as internal
from ._bar_progress_meter import BarProgressMeter as BarProgressMeter
from ._buffers import MaybeBuffer as MaybeBuffer, buffer_at_set as buffer_at_set
from ._fori_loop import fori_loop as fori_loop
from ._loop_cost import LoopCost as LoopCost, loop_cost as loop_cost
from ._progress_meter import AbstractProgressMeter as AbstractProgressMeter, NoProgressMeter as NoProgressMeter
from ._scan import scan as scan
from ._text_progress_meter import TextProgressMeter as TextProgressMeter
from ._tqdm_progress_meter import TqdmProgressMeter as TqdmProgressMeter
from ._while_loop import while_loop as while_loop

__version__ = version("eqx-loops")
