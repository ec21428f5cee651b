"""Decide what goes where in a file, before a byte of it is written."""

import math
from typing import Any

import jax
import jax.core
import jax.random as jr
import numpy as np

import eqx_core

from ._check_text import check_text
from ._dtypes import ITEM_SIZES, stored_shape
from ._header import Header, Tensor, stored_as
from ._keys import is_key, key_dtype
from ._python_values import to_json
from ._spec import ScalarSpec, spec_of
from ._structure import Structure


def plan(leaves: dict[str, Any], structure: Structure, metadata: dict[str, str]) -> tuple[dict[str, Any], Header]:
    """Return the arrays in the order they are written, and the header without digests, in the order of the tree.

    Raises:
      TypeError: A leaf is no concrete array but looks like one, or its dtype cannot be written.
      ValueError: A string is no valid text.
    """
    arrays, tensors, values, known = {}, {}, {}, {}
    for name, leaf in leaves.items():
        if eqx_core.is_array(leaf):
            arrays[name], dtype = _checked_array(name, leaf, known)
            shape = stored_shape(dtype, arrays[name].shape)
            size = math.prod(shape) * ITEM_SIZES[stored_as(dtype)]
            tensors[name] = Tensor(name, dtype, shape, 0, size, getattr(leaf, "weak_type", False))
        elif isinstance(spec_of(leaf), ScalarSpec):
            if isinstance(leaf, str):
                check_text(leaf, f"`{name}` in `save(tree)`")
            values[name] = to_json(leaf)
        else:
            _refuse_array_like(name, leaf)
    order = sorted(tensors, key=lambda name: _order(tensors[name]))
    start = 0
    for name in order:
        stop = start + tensors[name].stop
        tensors[name] = tensors[name]._replace(start=start, stop=stop)
        start = stop
    return {name: arrays[name] for name in order}, Header(tensors, values, structure, metadata)


def _order(tensor: Tensor) -> tuple[bool, int]:
    # Multiples of 64 bytes first: from there the next one starts at such a multiple as well, and
    # JAX takes it over without a copy. Then wide items first: each starts at a multiple of itself.
    return tensor.stop % 64 != 0, -ITEM_SIZES[stored_as(tensor.dtype)]


def _checked_array(name: str, leaf: Any, known: dict[Any, str]) -> tuple[Any, str]:
    """Return the array to write for `leaf`, and the dtype of the leaf.

    Args:
      known: The dtypes of other leaves as a file spells them: NumPy takes long to name one.
    """
    if isinstance(leaf, jax.core.Tracer):
        raise TypeError(
            f"`save(tree)` must hold concrete arrays; got a tracer at `{name}`. "
            "Call `save` outside `jax.jit` and other transformations."
        )
    if isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(
            f"`save(tree)` must hold plain arrays; got a masked array at `{name}`. Save its `data` and its `mask`."
        )
    try:
        if leaf.dtype not in known:
            dtype = key_dtype(leaf) if is_key(leaf) else leaf.dtype.name
            stored_as(dtype)
            known[leaf.dtype] = dtype
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`save(tree)` must hold arrays of dtypes that JAX has; got {error} at `{name}`. "
            "Convert that leaf, or leave it out."
        ) from error
    dtype = known[leaf.dtype]
    return (jr.key_data(leaf) if dtype.startswith("key<") else leaf), dtype


def _refuse_array_like(name: str, leaf: Any) -> None:
    # To leave these out without a word would be to lose data. A class, such as the dtype
    # `np.float32`, has the attributes of its instances.
    protocols = ("__array__", "__jax_array__")
    is_array_like = not isinstance(leaf, type) and any(hasattr(leaf, x) for x in protocols)
    if is_array_like or isinstance(leaf, jax.ShapeDtypeStruct):
        raise TypeError(
            f"`save(tree)` must hold arrays of JAX or NumPy; got `{type(leaf).__name__}` at "
            f"`{name}`. Convert it with `jnp.asarray`, or leave it out."
        )
