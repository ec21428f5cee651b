"""See what the parts of a model return, and put something else in its place: `taps`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core
import eqx_core.internal

from .._are_arrays import are_arrays
from .._axes import short
from .._jax_compat import hide_from_tracebacks
from .._make_jaxpr import filter_make_jaxpr
from .._partition import combine
from ._harvest import Call, calls_in, harvest
from ._marked import Mark, Path, marked
from ._picked_parts import Part, Where, name_of, picked_parts
from ._tap import ARRAY, Identical, Tap

hide_from_tracebacks(__file__)


class Taps(eqx_core.Module):
    """What `taps` returns: a model that returns, with its output, what its parts have returned.

    Attributes:
      model: The model, as it was given.
      replace: What to put in the place of activations, by path.
      perturb: What to add to them, by path.
      parts: Which parts are tapped.
    """

    model: Any
    replace: dict[str, Any]
    perturb: dict[str, Any]
    parts: tuple[Part, ...] = eqx_core.field(static=True)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that the activations go by."""
        return tuple(map(name_of, self.parts))

    def __call__(self, /, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Call the model.

        Returns:
          What the model returns; and for each path that was called, what it returned: a list if it was called more
          than once.
        """
        __tracebackhide__ = True
        jaxpr, structs, rest = filter_make_jaxpr(self._marked())(*args, **kwargs)
        calls = calls_in(jaxpr.jaxpr, self.paths)
        leaves = jtu.tree_leaves((args, kwargs))
        arrays = [leaf for leaf, is_array in zip(leaves, are_arrays(leaves), strict=True) if is_array]
        out, caught = harvest(jaxpr, self.paths, arrays, self._given(calls))
        activations: dict[str, list[Any]] = {}
        for call, found in zip(calls, caught, strict=True):
            activations.setdefault(call.tap.path, []).append(call.structure.put_together(found))
        out = combine(jtu.tree_unflatten(jtu.tree_structure(structs), out), rest)
        return out, {path: each if len(each) > 1 else each[0] for path, each in activations.items()}

    def _marked(self) -> Callable[..., Any]:
        """Return the model with its taps in place."""
        marks: dict[Path, dict[str, Mark]] = {}
        for part, path in zip(self.parts, self.paths, strict=True):
            tap = functools.partial(Tap, self.paths, path)
            if path in self.perturb:
                mark = tap("perturb")
            elif path not in self.replace:
                mark = tap()
            else:
                new = self.replace[path]
                mark = tap(function=Identical(new)) if callable(new) else tap("replace")
            marks.setdefault(part[0], {})[part[1]] = mark
        if not isinstance(self.model, eqx_core.internal.BoundMethod):
            return marked(self.model, marks)
        return functools.partial(self.model.__func__, marked(self.model.__self__, marks))

    def _given(self, calls: list[Call]) -> list[list[Any] | None]:
        """Return for each call the arrays that are put in, or None."""
        numbers: dict[str, list[int]] = {}
        for i, call in enumerate(calls):
            numbers.setdefault(call.tap.path, []).append(i)
        given: list[list[Any] | None] = [None] * len(calls)
        for option, values in (("replace", self.replace), ("perturb", self.perturb)):
            for path, value in values.items():
                if option == "replace" and callable(value):
                    continue
                each = _for_each_call(option, path, value, len(numbers.get(path, ())))
                for i, one in zip(numbers[path], each, strict=True):
                    given[i] = None if one is None else _arrays_for(option, calls[i], one)
        return given


def taps(
    model: Callable[..., Any],
    where: Where | tuple[Where, ...] | list[Where],
    *,
    replace: Mapping[str, Any] | None = None,
    perturb: Mapping[str, Any] | None = None,
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Return `model` such that it returns, beside its output, what the parts that `where` picks have returned.

    Nothing is written anywhere: the activations are results, also of parts that are called in `jax.jit`, `jax.vmap`,
    `jax.grad`, `jax.checkpoint`, `lax.scan` or `lax.cond` in the model, and the tapped model may be put under any
    transformation itself.

    A part that is called under `lax.scan` or `jax.vmap` in the model returns all its activations in one array, which has
    the axis of the loop or of the batch in front. A branch of `lax.cond` that was not taken returns NaN, the largest
    integer or True. A part that is not called at all is left out.

    Args:
      model: A Module, a method of one, or any PyTree that can be called.
      where: Which of its parts. A path, in which `*` stands for any name or index and `**` for any number of them, such
        as `"layers[*].attention"` (or `"layers.*.attention"`); a class, for all its instances; a function from the
        model to parts of it; or several of these. A part is a layer, any other callable in the PyTree, or a method of a
        layer, as in `"layers[0].attention.scores"` or `lambda model: model.layers[0].attention.scores`.
      replace: By path, what the rest of the model gets instead: a function of the activation, called each time that the
        part is; or a value like those that come out of the tapped model, for all calls at once.
      perturb: By path, what is added to the activation: a value of the same kind. With zeros, its gradient is that of
        the loss with respect to the activation.

    Returns:
      A Module that is called as `model` is. It returns a pair: what the model returns; and a dict from paths to
      activations. What the same part has returned in several calls is in a list, and so is what is given for it, with
      None for the calls to leave alone. Activations are those that the rest of the model has seen.

    Raises:
      TypeError: `where` is none of these, or picks what cannot be called.
      ValueError: `where` picks nothing; or `replace` or `perturb` have a path that it does not pick, or both the same.
        On calling the result: a value does not look like the activation, or a part is called where its result cannot
        be returned, as in a `lax.while_loop`.

    Example:
      >>> class Scale(eqx_core.Module):
      ...     by: jax.Array
      ...
      ...     def __call__(self, x):
      ...         return self.by * x
      >>> class Model(eqx_core.Module):
      ...     layers: list
      ...
      ...     def __call__(self, x):
      ...         for layer in self.layers:
      ...             x = layer(x)
      ...         return x
      >>> model = Model([Scale(jnp.array(2.0)), Scale(jnp.array(5.0))])
      >>> tapped = eqx_filter.debug.taps(model, "layers[*]")
      >>> out, activations = tapped(jnp.array(1.0))
      >>> print(out, activations["layers[0]"], activations["layers[1]"])
      10.0 2.0 10.0
      >>> changed = eqx_filter.debug.taps(model, "layers[0]", replace={"layers[0]": lambda x: x + 1})
      >>> print(changed(jnp.array(1.0))[0])
      15.0
    """
    tree = cast(Any, model).__self__ if isinstance(model, eqx_core.internal.BoundMethod) else model
    tapped = Taps(model, dict(replace or {}), dict(perturb or {}), tuple(picked_parts(tree, where)))
    for option, values in (("replace", tapped.replace), ("perturb", tapped.perturb)):
        for path in values:
            if path not in tapped.paths:
                raise ValueError(
                    f"`taps({option}=...)` must have keys that `where` picks; got `{path}`. It picks "
                    f"{_some(tapped.paths)}."
                )
    for path in tapped.replace.keys() & tapped.perturb.keys():
        raise ValueError(
            f"`taps(replace=..., perturb=...)` must not both have the same path; got `{path}` twice. Replace it by a "
            f"function that adds to it."
        )
    return tapped


def _some(paths: tuple[str, ...]) -> str:
    return ", ".join(f"`{path}`" for path in paths[:8]) + (" and others" if len(paths) > 8 else "")


def _for_each_call(option: str, path: str, value: Any, count: int) -> list[Any]:
    if count == 0:
        raise ValueError(
            f"`taps({option}=...)` must have paths of parts that the model calls; got `{path}`, which it does not call. "
            f"Leave it out, or look at what the tapped model returns without `{option}`."
        )
    each = [value] if count == 1 else value
    if not isinstance(each, list) or len(each) != count:
        raise ValueError(
            f"`taps({option}=...)` at `{path}` must be a list of {count} values, because it is called {count} times; got "
            f"{short(value)}. Put None for the calls to leave alone."
        )
    return each


def _arrays_for(option: str, call: Call, value: Any) -> list[Any]:
    """Return the arrays of a value, one for each of the activation, None for those to leave alone."""
    path, structure = call.tap.path, call.structure
    expected = structure.put_together(call.avals)
    try:
        leaves = structure.treedef.flatten_up_to(value)
    except ValueError as error:
        raise ValueError(_unlike(option, path, expected, value)) from error
    arrays = [leaf for leaf, kind in zip(leaves, structure.rest, strict=True) if kind is ARRAY]
    for array, aval in zip(arrays, call.avals, strict=True):
        if array is not None and not _is_like(array, aval):
            raise ValueError(_unlike(option, path, expected, value))
    return [None if array is None else jnp.asarray(array) for array in arrays]


def _is_like(array: Any, aval: jax.ShapeDtypeStruct) -> bool:
    return eqx_core.is_array(array) and (array.shape, array.dtype) == (aval.shape, aval.dtype)


def _unlike(option: str, path: str, expected: Any, value: Any) -> str:
    return (
        f"`taps({option}=...)` at `{path}` must be like the activation, "
        f"`{eqx_core.tree_pformat(expected, struct_as_array=True)}`; got {short(value)}. Start from what the tapped model "
        f"returns without `{option}`, or give a function of the activation."
    )
