"""Tools for finding what is wrong, under the name that programs use: all of `eqx_filter.debug`."""

from eqx_filter.debug import (
    NonFinite as NonFinite,
    ValueRange as ValueRange,
    announce_transform as announce_transform,
    assert_max_traces as assert_max_traces,
    backward_nan as backward_nan,
    breakpoint_if as breakpoint_if,
    explain_retrace as explain_retrace,
    first_nan as first_nan,
    get_num_traces as get_num_traces,
    inspect_dce as inspect_dce,
    store_dce as store_dce,
    taps as taps,
)
