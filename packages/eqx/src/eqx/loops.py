"""Differentiable loops, under the name that programs use: all of `eqx_loops`."""

from eqx_loops import (
    AbstractProgressMeter as AbstractProgressMeter,
    BarProgressMeter as BarProgressMeter,
    LoopCost as LoopCost,
    MaybeBuffer as MaybeBuffer,
    NoProgressMeter as NoProgressMeter,
    TextProgressMeter as TextProgressMeter,
    TqdmProgressMeter as TqdmProgressMeter,
    buffer_at_set as buffer_at_set,
    fori_loop as fori_loop,
    loop_cost as loop_cost,
    scan as scan,
    while_loop as while_loop,
)
