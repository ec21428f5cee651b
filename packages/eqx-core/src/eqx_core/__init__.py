"""What a model is: Modules, their fields, predicates on leaves, tree surgery, printing.

Read the files in this order: `_is_array`, `_module/_field`, `_module/_flatten`, `_module/_module`, `_module/_bound`,
then the tree functions, each in the file of its name.
"""

from importlib.metadata import version as _version

from . import internal as internal
from ._apply_updates import apply_updates as apply_updates
from ._clear_caches import clear_caches as clear_caches
from ._is_array import (
    is_array as is_array,
    is_array_like as is_array_like,
    is_inexact_array as is_inexact_array,
    is_inexact_array_like as is_inexact_array_like,
)
from ._module import (
    AbstractClassVar as AbstractClassVar,
    AbstractVar as AbstractVar,
    Module as Module,
    Partial as Partial,
    StrictConfig as StrictConfig,
    field as field,
    module_update_wrapper as module_update_wrapper,
    static_field as static_field,
)
from ._tree_at import tree_at as tree_at
from ._tree_check import tree_check as tree_check
from ._tree_diff import tree_diff as tree_diff
from ._tree_doctor import tree_doctor as tree_doctor
from ._tree_equal import tree_equal as tree_equal
from ._tree_flatten_one_level import tree_flatten_one_level as tree_flatten_one_level
from ._tree_pformat import tree_pformat as tree_pformat, tree_pprint as tree_pprint
from ._tree_summary import tree_summary as tree_summary

__version__ = _version("eqx-core")
