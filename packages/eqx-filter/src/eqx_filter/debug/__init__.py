"""Look into what JAX does with a function."""

from ._announce_transform import announce_transform as announce_transform
from ._backward_nan import backward_nan as backward_nan
from ._breakpoint_if import breakpoint_if as breakpoint_if
from ._dce import inspect_dce as inspect_dce, store_dce as store_dce
from ._explain_retrace import explain_retrace as explain_retrace
from ._first_nan import first_nan as first_nan
from ._max_traces import assert_max_traces as assert_max_traces, get_num_traces as get_num_traces
from ._non_finite import NonFinite as NonFinite, ValueRange as ValueRange
from ._taps import taps as taps
