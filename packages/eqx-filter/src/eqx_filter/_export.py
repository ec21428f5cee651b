"""Compile a function of models ahead of time, for another process: `filter_export`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.tree_util as jtu

from ._carry import Split
from ._exported_function import ExportedFunction
from ._jit_output import are_traceable
from ._result import Result, describe
from ._signature import Signature
from ._static_text import static_texts


def filter_export(
    fun: Callable[..., Any], *, platforms: Sequence[str] | None = None, disabled_checks: Sequence[Any] = ()
) -> Callable[..., ExportedFunction]:
    """Return a function that, given example arguments, compiles `fun` to what can be stored as bytes.

    It is `jax.export` for anything. All arrays in the arguments are inputs of what is exported: a model that is an
    argument can be another one in each call, and its weights are not stored. What is no array is part of the program.

    If `fun` itself holds arrays, as a Module does, these are inputs too: then it becomes the first argument, named "fun".
    Arrays that a plain function closes over are stored with it.

    Args:
      fun: A function, a Module, a bound method, or any other callable.
      platforms: What to compile for: of `"cpu"`, `"cuda"`, `"rocm"`, `"tpu"`; by default that which JAX uses here.
      disabled_checks: Passed on to `jax.export.export`.

    Returns:
      A function of the arguments of `fun`, or examples of these, that returns an `ExportedFunction`. Of arrays only
      shape and dtype matter: a `jax.ShapeDtypeStruct` may stand for one, also with symbolic dimensions.

    Raises:
      TypeError: On calling it: the arguments are not those of `fun`, or the result holds what cannot be stored. That is
        whatever is not an array, None, a bool, an int, a float or a string, in lists, tuples and dicts; but a result
        that is structured like one of the arguments, such as an updated model, may be anything.

    Example:
      >>> def predict(model, x):
      ...     return model["activation"](model["weight"] * x)
      >>> model = {"weight": jnp.array(2.0), "activation": jnp.tanh}
      >>> exported = filter_export(predict)(model, jax.ShapeDtypeStruct((3,), "float32"))
      >>> exported.inputs
      {"model['weight']": ShapeDtypeStruct(shape=(), dtype=float32), 'x': ShapeDtypeStruct(shape=(3,), dtype=float32)}
      >>> print(exported(model | {"weight": jnp.array(0.0)}, jnp.ones(3)))
      [0. 0. 0.]
    """

    def export(*args: Any, **kwargs: Any) -> ExportedFunction:
        __tracebackhide__ = True
        target, arguments = _arguments(fun, args, kwargs)
        traced = _Traced(target, arguments)
        from jax import export as jax_export  # What `import jax` does not load.

        export = jax_export.export(jax.jit(traced), platforms=platforms, disabled_checks=disabled_checks)
        exported = export(*traced.inputs.values())
        statics = {path: text for name, value in arguments.items() for path, text in static_texts(name, value)}
        return ExportedFunction(tuple(arguments), tuple(traced.inputs), statics, traced.results[-1], exported)

    return export


def _arguments(
    fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[[Sequence[Any]], Any], dict[str, Any]]:
    """Return the arguments by name, `fun` among them if it holds arrays, and a function of their values."""
    signature = Signature(fun)
    signature.check(args, kwargs)
    args, kwargs = signature.arrange(args, kwargs)
    names = [signature.describe((jtu.SequenceKey(1), jtu.SequenceKey(i))) for i in range(len(args))]
    arguments = dict(zip(names, args, strict=True)) | kwargs
    holds_arrays = bool(Split(fun).arrays)

    def target(values: Sequence[Any]) -> Any:
        __tracebackhide__ = True
        callee, *values = values if holds_arrays else (fun, *values)
        return callee(*values[: len(args)], **dict(zip(kwargs, values[len(args) :], strict=True)))

    if holds_arrays:
        arguments = {"fun_" if "fun" in arguments else "fun": fun} | arguments
    return target, arguments


class _Traced:
    """A function of the arrays of a call alone, as `jax.export` needs it.

    Attributes:
      inputs: The kind of each array, by path.
      results: What has been returned, once it has been called.
    """

    def __init__(self, target: Callable[[Sequence[Any]], Any], arguments: Mapping[str, Any]):
        self._target = target
        self._arguments = arguments
        self._leaves, self._treedef = jtu.tree_flatten(tuple(arguments.values()))
        self._where = [i for i, is_input in enumerate(_are_inputs(self._leaves)) if is_input]
        paths = [
            f"{name}{jtu.keystr(path)}"
            for name, value in arguments.items()
            for path, _ in jtu.tree_flatten_with_path(value)[0]
        ]
        self.inputs = {paths[i]: _kind(self._leaves[i]) for i in self._where}
        self.results: list[Result] = []
        self.__name__ = self.__qualname__ = "exported"

    def __call__(self, *arrays: Any) -> list[Any]:
        __tracebackhide__ = True
        leaves = self._leaves.copy()
        for i, array in zip(self._where, arrays, strict=True):
            leaves[i] = array
        values = self._treedef.unflatten(leaves)
        out = self._target(values)
        self.results.append(describe(out, dict(zip(self._arguments, values, strict=True))))
        return Split(out).arrays


def _are_inputs(leaves: list[Any]) -> list[bool]:
    traced = are_traceable(leaves)
    return [t or isinstance(leaf, jax.ShapeDtypeStruct) for t, leaf in zip(traced, leaves, strict=True)]


def _kind(leaf: Any) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype as JAX sees them, which makes a NumPy float64 a float32 unless x64 is enabled."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    aval = jax.typeof(leaf)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)
