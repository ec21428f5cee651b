"""What you do to a function: partition and combine, filtered transformations."""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any as _Any

from eqx_core import (
    is_array as is_array,
    is_array_like as is_array_like,
    is_inexact_array as is_inexact_array,
    is_inexact_array_like as is_inexact_array_like,
)

from ._checkpoint import filter_checkpoint as filter_checkpoint
from ._closure_convert import filter_closure_convert as filter_closure_convert
from ._cond import filter_cond as filter_cond
from ._custom_jvp import filter_custom_jvp as filter_custom_jvp
from ._custom_vjp import filter_custom_vjp as filter_custom_vjp
from ._device_put import filter_device_put as filter_device_put
from ._enumeration import Enumeration as Enumeration
from ._error_if import branched_error_if as branched_error_if, error_if as error_if
from ._eval_shape import filter_eval_shape as filter_eval_shape
from ._export import filter_export as filter_export
from ._exported_function import ExportedFunction as ExportedFunction, load_exported as load_exported
from ._fori_loop import filter_fori_loop as filter_fori_loop
from ._grad import filter_grad as filter_grad, filter_value_and_grad as filter_value_and_grad
from ._gradf import gradf as gradf, value_and_grad_f as value_and_grad_f
from ._if_array import if_array as if_array
from ._jacobian import (
    filter_hessian as filter_hessian,
    filter_jacfwd as filter_jacfwd,
    filter_jacrev as filter_jacrev,
)
from ._jit import filter_jit as filter_jit
from ._jitf import jitf as jitf
from ._jvp import filter_jvp as filter_jvp
from ._linearize import filter_linearize as filter_linearize
from ._make_jaxpr import filter_make_jaxpr as filter_make_jaxpr
from ._on_error import on_error as on_error
from ._partition import combine as combine, filter as filter, partition as partition
from ._pmap import filter_pmap as filter_pmap
from ._pure_callback import filter_pure_callback as filter_pure_callback
from ._runtime_error import (
    EquinoxRuntimeError as EquinoxRuntimeError,
    EquinoxTracetimeError as EquinoxTracetimeError,
    EqxRuntimeError as EqxRuntimeError,
)
from ._scan import filter_scan as filter_scan
from ._shard import filter_shard as filter_shard
from ._shard_map import filter_shard_map as filter_shard_map
from ._switch import filter_switch as filter_switch
from ._vjp import filter_vjp as filter_vjp
from ._vmap import filter_vmap as filter_vmap
from ._wait import wait as wait

if TYPE_CHECKING:
    from . import debug as debug, internal as internal

__version__ = _version("eqx-filter")

_LATER = ("debug", "internal")


def __getattr__(name: str) -> _Any:
    """Load a part when it is first asked for: the two take a quarter of the time of the whole."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _import_module(f".{name}", __name__)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
