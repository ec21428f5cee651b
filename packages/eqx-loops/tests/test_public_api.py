"""What the package exports is there and documented, and importing it costs little."""

import ast
import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import eqx_loops
import eqx_loops.internal

MODULES = [eqx_loops, eqx_loops.internal]


def exported(module):
    """Return the names that the index of a package spells as `X as X`, submodules aside."""
    tree = ast.parse(Path(module.__file__).read_text())
    aliases = [a for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names]
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
    if callable(value):
        assert (inspect.getdoc(value) or "").strip()


def test_the_loops_are_there():
    names = """
        while_loop scan fori_loop MaybeBuffer buffer_at_set AbstractProgressMeter NoProgressMeter TextProgressMeter TqdmProgressMeter
    """
    assert set(names.split()) <= set(exported(eqx_loops))
    assert {"maybe_set_p", "select_if_vmap_p"} <= set(exported(eqx_loops.internal))


@pytest.mark.parametrize("name", [name for name in exported(eqx_loops) if inspect.isfunction(getattr(eqx_loops, name))])
def test_every_parameter_and_result_is_annotated(name):
    signature = inspect.signature(getattr(eqx_loops, name))
    assert [p.name for p in signature.parameters.values() if p.annotation is p.empty] == []
    assert signature.return_annotation is not signature.empty


def test_importing_touches_no_device():
    # JAX refuses to change the number of devices once it has looked for them.
    script = "import eqx_loops, jax; jax.config.update('jax_num_cpu_devices', 3); print(jax.device_count('cpu'))"
    assert run(script) == ["3"]


def test_importing_pulls_in_nothing_heavy():
    script = """
import sys, jax, jax.numpy, numpy
before = set(sys.modules)
import eqx_loops
new = set(sys.modules) - before
print(*{name.partition(".")[0] for name in new} - sys.stdlib_module_names)
print(*(name for name in new if name.startswith(("jax.experimental", "jax.export", "jax.extend", "jax._src.pallas"))))
"""
    light = {"eqx_core", "eqx_filter", "eqx_loops", "jax", "jaxlib", "jaxtyping", "numpy", "wadler_lindig"}
    assert set(run(script)) - light == set()


def test_the_version_is_that_of_the_distribution():
    assert eqx_loops.__version__ == importlib.metadata.version("eqx-loops")
