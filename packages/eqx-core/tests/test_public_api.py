"""What the package exports is there and documented, and importing it costs little."""

import ast
import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import eqx_core
import eqx_core.internal

MODULES = [eqx_core, eqx_core.internal]


def exported(module):
    """Return the names that the index of a package spells as `X as X`, those loaded on first use included."""
    tree = ast.parse(Path(module.__file__).read_text())
    aliases = [a for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names]
    names = [a.asname for a in aliases if a.asname and not a.asname.startswith("_")]
    return sorted(name for name in names if not inspect.ismodule(getattr(module, name)))


EXPORTS = [(module, name) for module in MODULES for name in exported(module)]


def run(script):
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(("module", "name"), EXPORTS)
def test_every_export_is_there_and_documented(module, name):
    value = getattr(module, name)
    assert callable(value)
    assert (value.__doc__ or "").strip()


def test_the_names_of_the_public_interface_are_there():
    names = """
        Module field static_field StrictConfig AbstractVar AbstractClassVar module_update_wrapper Partial tree_at
        tree_equal tree_check tree_flatten_one_level tree_pformat tree_pprint apply_updates is_array is_array_like
        is_inexact_array is_inexact_array_like clear_caches
        tree_doctor tree_summary tree_diff
    """
    assert set(names.split()) <= set(exported(eqx_core))


def test_the_internal_names_are_there():
    names = """
        Static AbstractVar AbstractClassVar ω str2jax GetKey TreeWLCustom doc_repr doc_remove_args left_broadcast_to
        ContainerMeta closure_to_pytree BoundMethod typed_key register_cache begin_construction end_construction
    """
    assert set(names.split()) <= set(exported(eqx_core.internal))
    assert eqx_core.internal.AbstractVar is eqx_core.AbstractVar


@pytest.mark.parametrize(
    "name", [name for module, name in EXPORTS if module is eqx_core and inspect.isfunction(getattr(module, name))]
)
def test_every_parameter_and_result_is_annotated(name):
    signature = inspect.signature(getattr(eqx_core, name))
    assert [p.name for p in signature.parameters.values() if p.annotation is p.empty] == []
    assert signature.return_annotation is not signature.empty


def test_importing_touches_no_device():
    # JAX refuses to change the number of devices once it has looked for them.
    script = "import eqx_core, jax; jax.config.update('jax_num_cpu_devices', 3); print(jax.device_count('cpu'))"
    assert run(script) == ["3"]


def test_importing_pulls_in_nothing_heavy():
    script = """
import sys, jax, jax.numpy, numpy
before = set(sys.modules)
import eqx_core
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
print(*(name for name in set(sys.modules) - before if name.startswith(("jax.experimental", "jax.export"))))
"""
    # Not even the printer, which is loaded when something is to be shown.
    assert set(run(script)) - {"eqx_core", "jax", "jaxlib", "numpy"} == set()


def test_the_version_is_that_of_the_distribution():
    assert eqx_core.__version__ == importlib.metadata.version("eqx-core")
