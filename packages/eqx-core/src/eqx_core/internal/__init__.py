"""What sibling packages and friendly libraries may use of eqx-core, with no promise of stability."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any as _Any

from .._clear_caches import register_cache as register_cache
from .._module import (
    AbstractClassVar as AbstractClassVar,
    AbstractVar as AbstractVar,
    BoundMethod as BoundMethod,
    Static as Static,
    borrow_attributes as borrow_attributes,
)
from .._typed_key import typed_key as typed_key
from ._construction import begin_construction as begin_construction, end_construction as end_construction
from ._container_meta import ContainerMeta as ContainerMeta
from ._doc import doc_remove_args as doc_remove_args, doc_repr as doc_repr
from ._get_key import GetKey as GetKey
from ._left_broadcast_to import left_broadcast_to as left_broadcast_to

if TYPE_CHECKING:
    from .._tree_pformat import TreeWLCustom as TreeWLCustom
    from ._closure_to_pytree import closure_to_pytree as closure_to_pytree
    from ._omega import ω as ω
    from ._str2jax import str2jax as str2jax

_LATER = {
    "TreeWLCustom": ".._tree_pformat",
    "closure_to_pytree": "._closure_to_pytree",
    "str2jax": "._str2jax",
    "ω": "._omega",
}


def __getattr__(name: str) -> _Any:
    """Load what few programs need when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(_import_module(_LATER[name], __name__), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
