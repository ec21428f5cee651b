"""Tell which leaves are arrays: the predicates every filter is built from."""

from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

_ARRAYS = (jax.Array, np.ndarray, np.generic)
_SCALARS = (bool, int, float, complex)
# The constants of a jaxpr; until JAX 0.9 their class was neither a `jax.Array` nor an `np.ndarray`.
_LITERAL = "TypedNdArray"


def _is_inexact(dtype: Any) -> bool:
    # The dtypes of `ml_dtypes` are of kind "V" and PRNG keys of none: only these need the slow question.
    kind = getattr(dtype, "kind", "V")
    return kind in "fc" or (kind not in "iub" and bool(jnp.issubdtype(dtype, jnp.inexact)))


def is_array(element: Any) -> TypeGuard[jax.Array | np.ndarray | np.generic]:
    """Return True for a JAX array (tracers and typed PRNG keys included), a NumPy array or a NumPy scalar.

    Python scalars and `jax.ShapeDtypeStruct` are not arrays.

    Example:
      >>> import numpy as np
      >>> is_array(np.zeros(3)), is_array(np.float32(1)), is_array(1.0)
      (True, True, False)
    """
    return isinstance(element, _ARRAYS) or type(element).__name__ == _LITERAL


def is_array_like(element: Any) -> bool:
    """Return True for whatever JAX accepts as an array: arrays, Python scalars, objects with `__jax_array__`.

    Example:
      >>> is_array_like(1.0), is_array_like("1.0")
      (True, False)
    """
    return is_array(element) or isinstance(element, _SCALARS) or hasattr(element, "__jax_array__")


def is_inexact_array(element: Any) -> TypeGuard[jax.Array | np.ndarray | np.generic]:
    """Return True for an array that can be differentiated: one of floating or complex dtype.

    bfloat16 and the other small floats count, in JAX arrays and NumPy arrays alike.

    Example:
      >>> import numpy as np
      >>> is_inexact_array(np.zeros(3)), is_inexact_array(np.arange(3))
      (True, False)
    """
    return is_array(element) and _is_inexact(element.dtype)


def is_inexact_array_like(element: Any) -> bool:
    """Return True for an inexact array, a Python float or complex, or an object whose `__jax_array__` is inexact.

    Example:
      >>> is_inexact_array_like(1.0), is_inexact_array_like(1)
      (True, False)
    """
    if is_array(element):
        return _is_inexact(element.dtype)
    if hasattr(element, "__jax_array__"):
        return is_inexact_array(element.__jax_array__())
    return isinstance(element, (float, complex))
