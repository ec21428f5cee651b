"""Neural networks and other parameterised functions as PyTrees, and transformations that accept them.

All of eqx under one name: everything here belongs to `eqx_core` or `eqx_filter`, and the layers are in `eqx.nn`,
checkpoints in `eqx.serialise`, differentiable loops in `eqx.loops`.
"""

from importlib.metadata import version as _version

from eqx_core import (
    AbstractClassVar as AbstractClassVar,
    AbstractVar as AbstractVar,
    Module as Module,
    Partial as Partial,
    StrictConfig as StrictConfig,
    apply_updates as apply_updates,
    clear_caches as clear_caches,
    field as field,
    is_array as is_array,
    is_array_like as is_array_like,
    is_inexact_array as is_inexact_array,
    is_inexact_array_like as is_inexact_array_like,
    module_update_wrapper as module_update_wrapper,
    static_field as static_field,
    tree_at as tree_at,
    tree_check as tree_check,
    tree_equal as tree_equal,
    tree_flatten_one_level as tree_flatten_one_level,
    tree_pformat as tree_pformat,
    tree_pprint as tree_pprint,
)
from eqx_filter import (
    combine as combine,
    filter as filter,
    partition as partition,
)

from . import internal as internal, loops as loops, nn as nn, serialise as serialise

__version__ = _version("eqx")
