"""Call, store and load a function that has been compiled ahead of time: `ExportedFunction`, `load_exported`."""

import importlib.util
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

import eqx_core

from ._axes import short
from ._carry import NUMBERS
from ._result import Result, rebuild
from ._static_text import static_texts

_MAGIC = b"eqx-export-1\n"


class ExportedFunction:
    """A function that has been compiled ahead of time: what `filter_export` and `load_exported` return.

    Called, it takes the arguments that it has been exported with, by position or by name, with any values in their
    arrays. It can be jitted and, as far as `vjp_order` says, differentiated, but not mapped by `jax.vmap`.

    Attributes:
      names: The names of the arguments, in order.
      inputs: The kind of each array among the arguments, by path, for example `model.layers[0].weight`.
      statics: Whatever else is in them, by path and as text. It is part of the program: each call must have the same.
    """

    def __init__(
        self, names: tuple[str, ...], paths: tuple[str, ...], statics: dict[str, str], result: Result, exported: Any
    ):
        self.names = names
        kinds = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in exported.in_avals]
        self.inputs = dict(zip(paths, kinds, strict=True))
        self.statics = statics
        self._result = result
        self._exported = exported

    @property
    def platforms(self) -> tuple[str, ...]:
        """What it has been compiled for."""
        return self._exported.platforms

    def __repr__(self) -> str:
        return f"ExportedFunction({', '.join(self.names)}; {len(self.inputs)} arrays; {', '.join(self.platforms)})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        arguments = self._bind(args, kwargs)
        arrays: dict[str, Any] = {}
        for name, value in arguments.items():
            for path, leaf in jtu.tree_flatten_with_path(value)[0]:
                where = f"{name}{jtu.keystr(path)}"
                if eqx_core.is_array(leaf) or (where in self.inputs and isinstance(leaf, NUMBERS)):
                    arrays[where] = leaf
        self._check_statics(arguments, arrays)
        return rebuild(self._result, iter(self._run(arrays)), arguments)

    def on_arrays(self, arrays: Mapping[str, Any]) -> Any:
        """Call it with nothing but arrays, by the paths in `inputs`: no class of the model is needed.

        What the function returns structured like an argument is here a dict of arrays by path.

        Args:
          arrays: The arrays, for example as `safetensors` has loaded them.

        Raises:
          ValueError: There are more or fewer than in `inputs`, or one has another shape or dtype.
        """
        __tracebackhide__ = True
        return rebuild(self._result, iter(self._run(arrays)), None)

    def serialise(self, *, vjp_order: int = 0) -> bytes:
        """Return all of it as bytes, without the arrays, for `load_exported`.

        JAX promises to read them for six months. They need the same classes as the arguments do, and no other.

        Args:
          vjp_order: How many times in a row it can be differentiated, in reverse mode, once loaded.

        Raises:
          ImportError: The package flatbuffers is missing.
        """
        _need_flatbuffers("ExportedFunction.serialise()")
        header = {
            "jax": jax.__version__,
            "names": self.names,
            "paths": tuple(self.inputs),
            "statics": self.statics,
            "result": self._result,
        }
        text = json.dumps(header).encode()
        program = bytes(self._exported.serialize(vjp_order=vjp_order))
        return _MAGIC + len(text).to_bytes(8, "little") + text + program

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments by name, in order."""
        given = dict(zip(self.names, args, strict=False)) | kwargs
        if len(given) != len(args) + len(kwargs) or given.keys() != set(self.names):
            raise TypeError(
                f"`ExportedFunction(...)` must get the arguments that it was exported with, `{', '.join(self.names)}`; "
                f"got {len(args)} by position and {sorted(kwargs)} by name. Pass each once: a default that was left out "
                f"then is part of the program."
            )
        return {name: given[name] for name in self.names}

    def _check_statics(self, arguments: dict[str, Any], arrays: Mapping[str, Any]) -> None:
        """Raise if what is no array differs from what the program was compiled with."""
        texts = {path: text for name, value in arguments.items() for path, text in static_texts(name, value)}
        for path in sorted(self.statics.keys() | (texts.keys() - arrays.keys())):
            exported, given = self.statics.get(path, "nothing"), texts.get(path, "nothing")
            if path in arrays:
                given = short(arrays[path])
            if exported != given:
                raise ValueError(
                    f"`ExportedFunction(...)` must get what is no array as it was exported; got {given} instead of "
                    f"{exported} at `{path}`. Export it again, with `jnp.asarray(...)` there if it is a number that "
                    f"changes."
                )

    def _run(self, arrays: Mapping[str, Any]) -> Any:
        """Return the arrays of the result."""
        missing, excess = self.inputs.keys() - arrays.keys(), arrays.keys() - self.inputs.keys()
        if missing or excess:
            raise ValueError(
                f"`ExportedFunction(...)` must get just the arrays that it was exported with; got none for "
                f"{_some(missing)}, and some for {_some(excess)}. See `.inputs` for their paths."
            )
        return self._exported.call(*(_fitted(path, arrays[path], kind) for path, kind in self.inputs.items()))


def load_exported(data: bytes) -> ExportedFunction:
    """Return the function that `ExportedFunction.serialise` has stored.

    Args:
      data: What it returned, in this or another process.

    Raises:
      ValueError: The bytes are something else, cut short, or of a version of JAX that this one does not read.
      ImportError: The package flatbuffers is missing.

    Example:
      >>> exported = eqx_filter.filter_export(lambda model, x: model["weight"] * x)({"weight": jnp.ones(3)}, jnp.ones(3))
      >>> loaded = load_exported(exported.serialise())
      >>> print(loaded({"weight": jnp.arange(3.0)}, jnp.ones(3)))
      [0. 1. 2.]
      >>> print(loaded.on_arrays({"model['weight']": jnp.arange(3.0), "x": jnp.ones(3)}))
      [0. 1. 2.]
    """
    _need_flatbuffers("load_exported(data=...)")
    start = len(_MAGIC) + 8
    end = start + int.from_bytes(data[len(_MAGIC) : start], "little")
    if not data.startswith(_MAGIC) or len(data) <= end:
        raise ValueError(
            f"`load_exported(data=...)` must be what `ExportedFunction.serialise` returned; got {len(data)} bytes of "
            f"something else, or only the first of them. Open files in binary mode: `pathlib.Path(...).read_bytes()`."
        )
    header = json.loads(data[start:end])
    from jax import export as jax_export  # What `import jax` does not load.

    try:
        exported = jax_export.deserialize(bytearray(data[end:]))
    except ValueError as error:
        raise ValueError(
            f"`load_exported(data=...)` must be of a version of JAX that this one, {jax.__version__}, can read; got what "
            f"{header['jax']} wrote. Export it again. In detail: {error}"
        ) from error
    return ExportedFunction(
        tuple(header["names"]), tuple(header["paths"]), header["statics"], header["result"], exported
    )


def _need_flatbuffers(name: str) -> None:
    if importlib.util.find_spec("flatbuffers") is None:
        raise ImportError(
            f"`{name}` must have the package flatbuffers, which JAX stores programs with; got none. Install it by "
            f"`pip install 'eqx-filter[export]'`."
        )


def _fitted(path: str, array: Any, kind: jax.ShapeDtypeStruct) -> Any:
    """Return an array as an input of this kind, or raise. A dimension that is symbolic is checked by JAX."""
    if isinstance(array, NUMBERS) and _can_hold(kind, array):
        array = jnp.asarray(array, kind.dtype)
    aval = jax.typeof(array)
    same = len(aval.shape) == len(kind.shape) and aval.dtype == kind.dtype
    if not same or any(type(b) is int and a != b for a, b in zip(aval.shape, kind.shape, strict=True)):
        raise ValueError(
            f"`ExportedFunction(...)` must get arrays of the shapes and dtypes that it was exported with; got "
            f"{short(array)} instead of {_name(kind)} at `{path}`. Convert it by `.astype` or `.reshape`, or export it "
            f"again; for several lengths of an axis export it with `jax.export.symbolic_shape`."
        )
    return array


def _can_hold(kind: jax.ShapeDtypeStruct, number: Any) -> bool:
    """Tell whether an array of this dtype could be replaced by a number without rounding it to another kind."""
    if jnp.issubdtype(kind.dtype, jax.dtypes.extended):
        return False
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(number, kind.dtype) == kind.dtype


def _some(paths: set[str]) -> str:
    few = ", ".join(f"`{path}`" for path in sorted(paths)[:3]) or "nothing"
    return f"{few} and {len(paths) - 3} more" if len(paths) > 3 else few


def _name(kind: jax.ShapeDtypeStruct) -> str:
    return eqx_core.tree_pformat(kind, struct_as_array=True)
