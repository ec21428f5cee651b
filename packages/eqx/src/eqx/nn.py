"""Layers, under the name that programs use: all of `eqx_nn`."""

from eqx_nn import (
    MLP as MLP,
    AvgPool1d as AvgPool1d,
    AvgPool2d as AvgPool2d,
    AvgPool3d as AvgPool3d,
    Conv as Conv,
    Conv1d as Conv1d,
    Conv2d as Conv2d,
    Conv3d as Conv3d,
    Dropout as Dropout,
    Identity as Identity,
    Lambda as Lambda,
    Linear as Linear,
    MaxPool1d as MaxPool1d,
    MaxPool2d as MaxPool2d,
    MaxPool3d as MaxPool3d,
    Pool as Pool,
    Sequential as Sequential,
    StatefulLayer as StatefulLayer,
)
