"""Neural networks and other parameterised functions as PyTrees, and transformations that accept them.

All of eqx under one name. What is here belongs to `eqx_core` or `eqx_filter`; the layers are in `eqx.nn`, checkpoints in
`eqx.serialise`, differentiable loops in `eqx.loops`. These parts are loaded when they are first asked for.
"""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any as _Any

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
)
from eqx_filter import (
    Enumeration as Enumeration,
    EquinoxRuntimeError as EquinoxRuntimeError,
    EquinoxTracetimeError as EquinoxTracetimeError,
    EqxRuntimeError as EqxRuntimeError,
    ExportedFunction as ExportedFunction,
    branched_error_if as branched_error_if,
    combine as combine,
    error_if as error_if,
    filter as filter,
    filter_checkpoint as filter_checkpoint,
    filter_closure_convert as filter_closure_convert,
    filter_cond as filter_cond,
    filter_custom_jvp as filter_custom_jvp,
    filter_custom_vjp as filter_custom_vjp,
    filter_device_put as filter_device_put,
    filter_eval_shape as filter_eval_shape,
    filter_export as filter_export,
    filter_fori_loop as filter_fori_loop,
    filter_grad as filter_grad,
    filter_hessian as filter_hessian,
    filter_jacfwd as filter_jacfwd,
    filter_jacrev as filter_jacrev,
    filter_jit as filter_jit,
    filter_jvp as filter_jvp,
    filter_linearize as filter_linearize,
    filter_make_jaxpr as filter_make_jaxpr,
    filter_pmap as filter_pmap,
    filter_pure_callback as filter_pure_callback,
    filter_scan as filter_scan,
    filter_shard as filter_shard,
    filter_shard_map as filter_shard_map,
    filter_switch as filter_switch,
    filter_value_and_grad as filter_value_and_grad,
    filter_vjp as filter_vjp,
    filter_vmap as filter_vmap,
    gradf as gradf,
    if_array as if_array,
    jitf as jitf,
    load_exported as load_exported,
    on_error as on_error,
    partition as partition,
    value_and_grad_f as value_and_grad_f,
    wait as wait,
)

if TYPE_CHECKING:
    from eqx_core import (
        tree_diff as tree_diff,
        tree_doctor as tree_doctor,
        tree_pformat as tree_pformat,
        tree_pprint as tree_pprint,
        tree_summary as tree_summary,
    )
    from eqx_nn import (
        tree_inference as tree_inference,
    )
    from eqx_serialise import (
        default_deserialise_filter_spec as default_deserialise_filter_spec,
        default_serialise_filter_spec as default_serialise_filter_spec,
        tree_deserialise_leaves as tree_deserialise_leaves,
        tree_serialise_leaves as tree_serialise_leaves,
    )

    from . import debug as debug, internal as internal, loops as loops, nn as nn, serialise as serialise

__version__ = _version("eqx")

_PARTS = ("debug", "internal", "loops", "nn", "serialise")
# Where the names are that belong here and load one of the parts, or something else that few programs need.
_LATER = {
    "default_deserialise_filter_spec": "eqx_serialise",
    "default_serialise_filter_spec": "eqx_serialise",
    "tree_deserialise_leaves": "eqx_serialise",
    "tree_diff": "eqx_core",
    "tree_doctor": "eqx_core",
    "tree_inference": "eqx_nn",
    "tree_pformat": "eqx_core",
    "tree_pprint": "eqx_core",
    "tree_serialise_leaves": "eqx_serialise",
    "tree_summary": "eqx_core",
}


def __getattr__(name: str) -> _Any:
    """Load a part, or one of the names that need it, when it is first asked for."""
    if name in _PARTS:
        return _import_module(f".{name}", __name__)
    if name in _LATER:
        return globals().setdefault(name, getattr(_import_module(_LATER[name]), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PARTS, *_LATER})
