"""Compare PyTrees: structure first, then kinds of leaves, then values in as few steps as possible."""

import collections
import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._clear_caches import register_cache
from ._is_array import is_array, is_inexact_array

_ONE_DEVICE = jax.sharding.SingleDeviceSharding
# The dtypes of NumPy itself. The others (bfloat16, float8, int4) reach the host slowly, PRNG keys not at all.
_NUMPY_KINDS = "biufc"
_SMALL = 1024  # elements


def tree_equal(*pytrees: Any, typematch: bool = False, rtol: float = 0.0, atol: float = 0.0) -> Any:
    """Return whether all `pytrees` have one structure and equal leaves.

    The answer is `False` whenever structure, shapes, dtypes or non-array leaves differ. Otherwise it is an array as soon as
    a JAX array was compared, so that it also works inside `jax.jit`: write `tree_equal(a, b) is False` there.

    Args:
      pytrees: One or more PyTrees. Each is compared with the first.
      typematch: Whether leaves must also have the same type. Without it `1 == 1.0 == True`, and a NumPy array may equal
        a JAX array.
      rtol: Relative tolerance for arrays of inexact dtype, at least 0.
      atol: Absolute tolerance for arrays of inexact dtype, at least 0. Python floats are always compared exactly.

    Returns:
      A Python bool, or `bool[]` if a JAX array was compared. NaN equals nothing, -0.0 equals 0.0, weak types are ignored.

    Raises:
      TypeError: There is no PyTree to compare.

    Example:
      >>> tree_equal({"a": 1}, {"a": 1}), tree_equal([1], (1,))
      (True, False)
    """
    if not pytrees:
        raise TypeError("`tree_equal(*pytrees)` must get at least one PyTree; got none. Write `tree_equal(a, b)`.")
    pairs = _pair_leaves(pytrees)
    if pairs is None or (typematch and not all(type(a) is type(b) for a, b in pairs)):
        return False
    arrays = _compare_statically(pairs)
    if arrays is None:
        return False
    tolerance = None if _is_zero(rtol) and _is_zero(atol) else (rtol, atol)
    in_jax = [(a, b) for a, b in arrays if isinstance(a, jax.Array) or isinstance(b, jax.Array)]
    if len(in_jax) < len(arrays):
        in_numpy = ((a, b) for a, b in arrays if not (isinstance(a, jax.Array) or isinstance(b, jax.Array)))
        if not all(_equal_in_numpy(a, b, tolerance) for a, b in in_numpy):
            return False
    return _equal_in_jax(in_jax, tolerance) if in_jax else True


def _is_zero(tolerance: Any) -> bool:
    return isinstance(tolerance, (int, float)) and tolerance == 0


def _pair_leaves(pytrees: tuple[Any, ...]) -> list[tuple[Any, Any]] | None:
    """Pair the leaves of the first tree with those of each other tree; None if a structure differs."""
    leaves, treedef = jtu.tree_flatten(pytrees[0])
    pairs: list[tuple[Any, Any]] = []
    for other in pytrees[1:]:
        other_leaves, other_treedef = jtu.tree_flatten(other)
        if treedef != other_treedef:
            return None
        pairs.extend(zip(leaves, other_leaves, strict=True))
    return pairs


def _compare_statically(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]] | None:
    """Compare all that needs no array's values; return the pairs of arrays that are left, or None if something differs."""
    arrays: list[tuple[Any, Any]] = []
    for pair in pairs:
        a, b = pair
        both = is_array(a)
        if both != is_array(b):
            return None
        if not (a.shape == b.shape and a.dtype == b.dtype if both else a == b):
            return None
        if both:
            arrays.append(pair)
    return arrays


def _equal_in_numpy(a: Any, b: Any, tolerance: tuple[Any, Any] | None) -> bool:
    if tolerance is None or not is_inexact_array(a):
        return bool(np.all(a == b))
    return bool(np.allclose(a, b, rtol=tolerance[0], atol=tolerance[1]))


def _equal_in_jax(pairs: list[tuple[Any, Any]], tolerance: tuple[Any, Any] | None) -> jax.Array:
    """Compare pairs of arrays: on the host where that needs no transfer, elsewhere on the devices that hold them."""
    # JAX costs microseconds per pair, or seconds of compilation per new structure if all pairs go into one program. NumPy
    # reads the very same memory at a fraction of that. It cannot be used for tracers.
    on_host = tolerance is None and jax.default_backend() == "cpu"
    host_pairs: dict[Any, list[tuple[Any, Any]]] = collections.defaultdict(list)
    by_devices: dict[Any, jax.Array] = {}
    for a, b in pairs:
        dtype = a.dtype
        if on_host and _is_on_host(a) and _is_on_host(b) and getattr(dtype, "kind", "V") in _NUMPY_KINDS:
            host_pairs[dtype].append((np.asarray(a), np.asarray(b)))
        else:
            where, other = _devices(a), _devices(b)
            if where is None:
                where = other
            elif other is not None and other != where:
                b = jax.device_put(b, a.sharding)
            close = () if tolerance is None or not is_inexact_array(a) else tolerance
            by_devices[where] = _and_equal(by_devices.get(where), a, b, *close)
    if not all(map(_equal_on_host, host_pairs.values())):
        return jnp.asarray(False)
    return _all(list(by_devices.values()))


def _equal_on_host(pairs: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Compare pairs of NumPy arrays, all of one dtype."""
    # To look at a small array costs ten times as much as to copy it.
    small = [pair for pair in pairs if pair[0].size <= _SMALL]
    if not all((a == b).all() for a, b in pairs if a.size > _SMALL):
        return False
    firsts, seconds = zip(*small, strict=True) if small else ((), ())
    return not small or bool((np.concatenate(firsts, axis=None) == np.concatenate(seconds, axis=None)).all())


def _is_on_host(x: Any) -> bool:
    """Tell whether `np.asarray(x)` copies nothing, on a machine whose arrays live in CPU memory. It is False for tracers."""
    sharding = getattr(x, "sharding", None)
    return isinstance(x, (np.ndarray, np.generic)) if sharding is None else type(sharding) is _ONE_DEVICE


def _devices(x: Any) -> frozenset[Any] | None:
    """Return the devices that hold `x`; None for tracers and NumPy arrays, which go wherever the computation goes."""
    sharding = getattr(x, "sharding", None)
    return None if sharding is None else frozenset(sharding.device_set)


@jax.jit
def _and_equal(so_far: jax.Array | None, a: Any, b: Any, rtol: Any = None, atol: Any = None) -> jax.Array:
    """Add one pair to the answer. One program per pair keeps the number of programs at that of the distinct shapes."""
    equal = jnp.all(a == b) if rtol is None else jnp.allclose(a, b, rtol=rtol, atol=atol)
    return equal if so_far is None else so_far & equal


register_cache(_and_equal.clear_cache)  # pyright: ignore[reportAttributeAccessIssue]


def _all(answers: list[jax.Array]) -> jax.Array:
    """Combine the answers of arrays that live on different devices."""
    if len(answers) == 1:
        return answers[0]
    traced = [answer for answer in answers if _devices(answer) is None]
    known = all(bool(answer) for answer in answers if _devices(answer) is not None)
    return functools.reduce(jnp.logical_and, traced, jnp.asarray(known))
