"""What a model is: Modules, their fields, predicates on leaves, tree surgery, printing.

Read the files in this order: `_is_array`, `_module/_field`, `_module/_flatten`, `_module/_module`, `_module/_bound`,
then the tree functions, each in the file of its name.
"""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any as _Any

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
from ._tree_equal import tree_equal as tree_equal
from ._tree_flatten_one_level import tree_flatten_one_level as tree_flatten_one_level

if TYPE_CHECKING:
    from ._tree_diff import tree_diff as tree_diff
    from ._tree_doctor import tree_doctor as tree_doctor
    from ._tree_pformat import tree_pformat as tree_pformat, tree_pprint as tree_pprint
    from ._tree_summary import tree_summary as tree_summary

__version__ = _version("eqx-core")

_LATER = {
    "tree_diff": "_tree_diff",
    "tree_doctor": "_tree_doctor",
    "tree_pformat": "_tree_pformat",
    "tree_pprint": "_tree_pformat",
    "tree_summary": "_tree_summary",
}


def __getattr__(name: str) -> _Any:
    """Load what shows a model when it is first asked for: it takes a third of the time of the whole."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(_import_module(f".{_LATER[name]}", __name__), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
