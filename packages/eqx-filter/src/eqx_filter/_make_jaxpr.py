"""Show the program that JAX makes of a function of anything: `filter_make_jaxpr`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.tree_util as jtu

from ._eval_shape import split_call
from ._jax_compat import hide_from_tracebacks
from ._jit_output import Output
from ._transform import Transformed

hide_from_tracebacks(__file__)


class MadeJaxpr(Transformed):
    """What `filter_make_jaxpr` returns."""

    fun: Callable[..., Any]

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.fun

    def __call__(self, /, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        __tracebackhide__ = True

        def closed(*args: Any, **kwargs: Any) -> Any:
            # Flattened and built anew, the callable has its arrays as leaves, but here they are to be constants.
            return self.fun(*args, **kwargs)

        call, arrays = split_call(*jtu.tree_flatten((closed, args, kwargs)))
        jaxpr, out = jax.make_jaxpr(call, return_shape=True)(arrays)
        return jaxpr, *_parted(out)


def filter_make_jaxpr(fun: Callable[..., Any]) -> Any:
    """Return a function that gives the jaxpr of `fun`: the program that JAX would run.

    Args:
      fun: Any callable. The arrays that it holds become constants of the jaxpr, each once.

    Returns:
      A function of the same arguments, where arrays and `jax.ShapeDtypeStruct`s alike stand for arrays. It returns a
      triple: the `ClosedJaxpr` from the arrays among the arguments to those in the result; a PyTree of what these are,
      as `jax.ShapeDtypeStruct`s; and a PyTree of the rest of the result. In the latter two None stands for what is in
      the other.

    Example:
      >>> jaxpr, structs, rest = eqx_filter.filter_make_jaxpr(lambda x, n: (x**n, "power"))(jnp.array(2.0), 3)
      >>> jaxpr
      { lambda ; a:f32[]. let b:f32[] = integer_pow[y=3] a in (b,) }
      >>> structs[0].shape, structs[1], rest
      ((), None, (None, 'power'))
    """
    return MadeJaxpr(fun)


_HOLE = object()


def _parted(out: Output) -> tuple[Any, Any]:
    """Return a result with the structs alone, and with all but them."""
    structs: Sequence[Any] = out.args[0]
    # The result may hold structs of its own, so it takes a mark to tell where those of JAX are.
    leaves, treedef = jtu.tree_flatten(out.func([_HOLE] * len(structs)))
    each = iter(structs)
    dynamic = [next(each) if leaf is _HOLE else None for leaf in leaves]
    return treedef.unflatten(dynamic), treedef.unflatten([None if leaf is _HOLE else leaf for leaf in leaves])
