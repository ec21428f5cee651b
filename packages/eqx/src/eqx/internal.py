"""The semi-public tier of every package in one place; no promise of stability."""

from eqx_core.internal import (
    AbstractClassVar as AbstractClassVar,
    AbstractVar as AbstractVar,
    BoundMethod as BoundMethod,
    ContainerMeta as ContainerMeta,
    GetKey as GetKey,
    Static as Static,
    TreeWLCustom as TreeWLCustom,
    closure_to_pytree as closure_to_pytree,
    doc_remove_args as doc_remove_args,
    doc_repr as doc_repr,
    left_broadcast_to as left_broadcast_to,
    register_cache as register_cache,
    str2jax as str2jax,
    typed_key as typed_key,
    ω as ω,
)
