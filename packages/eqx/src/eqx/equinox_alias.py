"""Let programs and libraries that were written for Equinox run on eqx, unchanged.

Import this before anything imports equinox:

    import eqx.equinox_alias
    import diffrax  # Its `import equinox` finds eqx.

From then on, in this process, `equinox`, its submodules, and those of its private modules that libraries are known to reach
into hold the objects of eqx. There are no copies: `equinox.Module is eqx.Module`. Whether Equinox is installed makes no
difference. Two more ways need no change to the program at all:

    python -m eqx.equinox_alias program.py ...    # likewise -m module, -c code
    pytest -p eqx.equinox_alias ...

Pickles refer to classes by where eqx has them, and so can be read without the alias; under the alias, pickles which refer to
classes by where Equinox has them can be read too.
"""

import importlib
import importlib.machinery
import inspect
import os.path
import runpy
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

# What libraries write into their files, or compare with what they need.
_VERSION = "0.13.8"

_PUBLIC = ("debug", "internal", "nn")
# In a private module is whatever is public, here or in `internal`, in the part that it belongs to.
_PRIVATE = """
    _ad _caches _callback _compile_utils _custom_types _doc_utils _enum _errors _eval_shape _filters _jit _make_jaxpr _misc
    _module _module._better_abstract _module._field _module._module _module._prebuilt _pretty_print _serialisation _sharding
    _tree _unvmap _update _vmap_pmap
    debug._announce_transform debug._backward_nan debug._breakpoint_if debug._dce debug._max_traces
    internal._closure_to_pytree internal._finalise_jaxpr internal._getkey internal._loop internal._loop.common
    internal._loop.loop internal._misc internal._nextafter internal._noinline internal._nontraceable internal._omega
    internal._onnx internal._primitive internal._progress_meter internal._str2jax
    nn._activations nn._attention nn._batch_norm nn._conv nn._dropout nn._embedding nn._inference nn._linear nn._misc nn._mlp
    nn._normalisation nn._pool nn._rnn nn._sequential nn._shared nn._spectral_norm nn._stateful nn._weight_norm
"""


class _Alias(types.ModuleType):
    """A module of Equinox, whose contents are looked up in modules of eqx when they are first asked for."""

    def __init__(self, name: str, targets: tuple[str, ...]):
        super().__init__(name, f"Stands for `{name}` by `{targets[0]}`.")
        # An empty path, so that a submodule which is not aliased is not there, rather than Equinox's.
        self.__path__ = []
        self.__package__ = name
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        self._targets = targets

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return [name for name in dir(self) if not name.startswith("_")]
        own = _OWN.get(f"{self.__name__}.{name}")
        if own is not None:
            return vars(self).setdefault(name, own())
        if not name.startswith("__"):
            for target in map(importlib.import_module, self._targets):
                if hasattr(target, name):
                    return vars(self).setdefault(name, getattr(target, name))
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}: `eqx` stands for it.")

    def __dir__(self) -> list[str]:
        modules = map(importlib.import_module, self._targets)
        return sorted({*vars(self), *(name for module in modules for name in dir(module))})


class _HasDataclassInit(Mapping[type, bool]):
    """For each Module class, whether its `__init__` is generated from its fields."""

    def __getitem__(self, cls: Any) -> bool:
        if not isinstance(cls, _module_meta()):
            raise KeyError(cls)
        return cls.__module_plan__.generated

    def __iter__(self) -> Iterator[type]:
        seen = [_module().Module]
        for cls in seen:
            seen += [subclass for subclass in cls.__subclasses__() if subclass not in seen]
        return iter(seen)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _CurrentlyInitialising:
    """The instances whose `__init__` runs and may assign to their fields, for metaclasses that construct them."""

    def add(self, instance: Any) -> None:
        _internal("begin_construction")(instance)

    def remove(self, instance: Any) -> None:
        _internal("end_construction")(instance)


def _is_abstract_module(cls: Any) -> bool:
    """Return whether a Module class cannot be instantiated."""
    plan = cls.__module_plan__
    return inspect.isabstract(cls) or plan.abstract is not None or bool(plan.unfilled)


def _module() -> Any:
    return importlib.import_module("eqx_core")


def _module_meta() -> Any:
    return type(_module().Module)


def _internal(name: str) -> Any:
    return getattr(importlib.import_module("eqx_core.internal"), name)


def _beside_attention(name: str) -> Any:
    """Return a function from the module of `MultiheadAttention`."""
    home = importlib.import_module("eqx_nn").MultiheadAttention.__module__
    return getattr(sys.modules[home], name)


def _default_floating_dtype() -> Any:
    """Return what `float` is as an array's dtype: float64 with `jax_enable_x64`, else float32."""
    return jnp.result_type(float)


# Private names that libraries use.
_OWN: dict[str, Callable[[], Any]] = {
    "equinox._custom_types.sentinel": object,
    "equinox._misc.default_floating_dtype": lambda: _default_floating_dtype,
    "equinox._module._ModuleMeta": _module_meta,
    "equinox._module._has_dataclass_init": _HasDataclassInit,
    "equinox._module._module._ModuleMeta": _module_meta,
    "equinox._module._module._currently_initialising": _CurrentlyInitialising,
    "equinox._module._module._has_dataclass_init": _HasDataclassInit,
    "equinox._module._module.is_abstract_module": lambda: _is_abstract_module,
    "equinox.internal._omega._Metaω": lambda: type(_internal("ω")),
    "equinox.internal._omega._ω": lambda: _internal("ω"),
    "equinox.nn._attention.dot_product_attention": lambda: _beside_attention("dot_product_attention"),
    "equinox.nn._attention.dot_product_attention_weights": lambda: _beside_attention("dot_product_attention_weights"),
    "equinox.nn._misc.default_floating_dtype": lambda: _default_floating_dtype,
    "equinox.nn._misc.named_scope": lambda: jax.named_scope,
}


def _targets(name: str) -> tuple[str, ...]:
    part = name.partition(".")[2].partition(".")[0]
    return (f"eqx.{part}",) if part in _PUBLIC else ("eqx", "eqx.internal") if part else ("eqx",)


def _install() -> None:
    imported = sys.modules.get("equinox")
    if isinstance(imported, _Alias):
        return
    if imported is not None:
        raise RuntimeError(
            "`import eqx.equinox_alias` must come before whatever imports equinox; got `equinox` imported already, from "
            f"`{getattr(imported, '__file__', None)}`. Make it the first import of the program, or run the program by "
            "`python -m eqx.equinox_alias`, or pytest with `-p eqx.equinox_alias`."
        )
    for name in ("equinox", *(f"equinox.{rest}" for rest in (*_PUBLIC, *_PRIVATE.split()))):
        sys.modules[name] = module = _Alias(name, _targets(name))
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    vars(sys.modules["equinox"])["__version__"] = _VERSION


_USAGE = "usage: python -m eqx.equinox_alias (-c code | -m module | program.py) [argument ...]"


def _run(arguments: list[str]) -> None:
    """Run a program as `python` itself would, given the same arguments."""
    if not arguments or (arguments[0] in ("-c", "-m") and len(arguments) == 1):
        sys.exit(_USAGE)
    if arguments[0] in ("-h", "--help"):
        print(_USAGE)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(arguments[1], "<string>", "exec"), vars(main))
    elif arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0].startswith("-"):
        sys.exit(f"unknown option {arguments[0]}; options of Python go before -m\n{_USAGE}")
    else:
        sys.argv = arguments
        if not sys.flags.safe_path:
            # In place of the working directory, which `python -m` has put there.
            sys.path[0] = os.path.dirname(os.path.realpath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    from . import equinox_alias as _imported

    _imported._run(sys.argv[1:])
else:
    _install()
