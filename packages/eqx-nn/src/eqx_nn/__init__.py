"""Neural network layers for JAX, as PyTrees.

Each layer is for one example: map it over a batch with `jax.vmap`. Each is in the file of its name; `_uniform` says how
parameters start, `_state` how layers remember.
"""

from importlib.metadata import version as _version

from ._adaptive_avg_pool import (
    AdaptiveAvgPool1d as AdaptiveAvgPool1d,
    AdaptiveAvgPool2d as AdaptiveAvgPool2d,
    AdaptiveAvgPool3d as AdaptiveAvgPool3d,
)
from ._adaptive_max_pool import (
    AdaptiveMaxPool1d as AdaptiveMaxPool1d,
    AdaptiveMaxPool2d as AdaptiveMaxPool2d,
    AdaptiveMaxPool3d as AdaptiveMaxPool3d,
)
from ._adaptive_pool import AdaptivePool as AdaptivePool
from ._attention import MultiheadAttention as MultiheadAttention
from ._avg_pool import AvgPool1d as AvgPool1d, AvgPool2d as AvgPool2d, AvgPool3d as AvgPool3d
from ._batch_norm import BatchNorm as BatchNorm
from ._check_state import check_state as check_state
from ._conv import Conv as Conv, Conv1d as Conv1d, Conv2d as Conv2d, Conv3d as Conv3d
from ._conv_transpose import (
    ConvTranspose as ConvTranspose,
    ConvTranspose1d as ConvTranspose1d,
    ConvTranspose2d as ConvTranspose2d,
    ConvTranspose3d as ConvTranspose3d,
)
from ._dropout import Dropout as Dropout
from ._embedding import Embedding as Embedding
from ._group_norm import GroupNorm as GroupNorm
from ._gru_cell import GRUCell as GRUCell
from ._inference_mode import inference_mode as inference_mode, tree_inference as tree_inference
from ._lambda import Lambda as Lambda
from ._layer_norm import LayerNorm as LayerNorm
from ._linear import Identity as Identity, Linear as Linear
from ._lstm_cell import LSTMCell as LSTMCell
from ._max_pool import MaxPool1d as MaxPool1d, MaxPool2d as MaxPool2d, MaxPool3d as MaxPool3d
from ._mlp import MLP as MLP
from ._pool import Pool as Pool
from ._prelu import PReLU as PReLU
from ._reinit import reinit as reinit
from ._rms_norm import RMSNorm as RMSNorm
from ._rotary import RotaryPositionalEmbedding as RotaryPositionalEmbedding
from ._sequential import Sequential as Sequential
from ._shared import Shared as Shared
from ._spectral_norm import SpectralNorm as SpectralNorm
from ._state import (
    State as State,
    StateIndex as StateIndex,
    delete_init_state as delete_init_state,
    make_with_state as make_with_state,
)
from ._stateful_layer import StatefulLayer as StatefulLayer
from ._weight_norm import WeightNorm as WeightNorm

__version__ = _version("eqx-nn")
