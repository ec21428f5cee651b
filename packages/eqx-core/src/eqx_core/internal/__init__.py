"""What sibling packages and friendly libraries may use of eqx-core, with no promise of stability."""

from .._clear_caches import register_cache as register_cache
from .._module import (
    AbstractClassVar as AbstractClassVar,
    AbstractVar as AbstractVar,
    BoundMethod as BoundMethod,
    Static as Static,
    borrow_attributes as borrow_attributes,
)
from .._tree_pformat import TreeWLCustom as TreeWLCustom
from .._typed_key import typed_key as typed_key
from ._closure_to_pytree import closure_to_pytree as closure_to_pytree
from ._container_meta import ContainerMeta as ContainerMeta
from ._doc import doc_remove_args as doc_remove_args, doc_repr as doc_repr
from ._get_key import GetKey as GetKey
from ._left_broadcast_to import left_broadcast_to as left_broadcast_to
from ._omega import ω as ω
from ._str2jax import str2jax as str2jax
