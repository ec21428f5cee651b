"""What sibling packages and friendly libraries may use, with no promise of stability."""

from .._enumeration import Enumeration as Enumeration
from .._error_if import branched_error_if as branched_error_if, error_if as error_if
from .._eval_shape import cached_filter_eval_shape as cached_filter_eval_shape
from .._finalise import (
    finalise_eval_jaxpr as finalise_eval_jaxpr,
    finalise_fn as finalise_fn,
    finalise_jaxpr as finalise_jaxpr,
    finalise_jaxpr_as_fn as finalise_jaxpr_as_fn,
    finalise_make_jaxpr as finalise_make_jaxpr,
    primitive_finalisations as primitive_finalisations,
    register_impl_finalisation as register_impl_finalisation,
)
from .._hashable_partition import hashable_combine as hashable_combine, hashable_partition as hashable_partition
from .._nondifferentiable import (
    nondifferentiable as nondifferentiable,
    nondifferentiable_backward as nondifferentiable_backward,
    nondifferentiable_backward_p as nondifferentiable_backward_p,
)
from .._trace_checks import check_each_trace as check_each_trace
from .._unvmap import (
    unvmap_all as unvmap_all,
    unvmap_all_p as unvmap_all_p,
    unvmap_any as unvmap_any,
    unvmap_any_p as unvmap_any_p,
    unvmap_max as unvmap_max,
    unvmap_max_p as unvmap_max_p,
)
from ..debug._announce_transform import (
    announce_jaxpr_p as announce_jaxpr_p,
    announce_transform as announce_transform,
)
from ..debug._backward_nan import debug_backward_nan as debug_backward_nan
from ..debug._breakpoint_if import breakpoint_if as breakpoint_if
from ..debug._dce import inspect_dce as inspect_dce, store_dce as store_dce
from ._assert_dce import assert_dce as assert_dce
from ._create_vprim import create_vprim as create_vprim
from ._eval_like import eval_empty as eval_empty, eval_zero as eval_zero
from ._filter_primitive import (
    filter_primitive_batching as filter_primitive_batching,
    filter_primitive_bind as filter_primitive_bind,
    filter_primitive_def as filter_primitive_def,
    filter_primitive_jvp as filter_primitive_jvp,
    filter_primitive_transpose as filter_primitive_transpose,
    materialise_zeros as materialise_zeros,
)
from ._nextafter import nextafter as nextafter, prevbefore as prevbefore
from ._noinline import noinline as noinline, noinline_p as noinline_p
from ._nonbatchable import nonbatchable as nonbatchable, nonbatchable_p as nonbatchable_p
from ._nontraceable import nontraceable as nontraceable, nontraceable_p as nontraceable_p
from ._scan_trick import scan_trick as scan_trick
from ._to_onnx import to_onnx as to_onnx
