"""All of eqx under one name: the same objects, and an import that costs little."""

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

import eqx
import eqx_core
import eqx_filter
import eqx_loops
import eqx_nn
import eqx_serialise


def run(script):
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("mine", "theirs", "names"),
    [
        (eqx, eqx_core, "Module field tree_at tree_equal is_array Partial"),
        (eqx, eqx_filter, "filter partition combine filter_jit filter_grad filter_vmap error_if Enumeration"),
        (eqx.nn, eqx_nn, "Linear Conv2d MLP Dropout BatchNorm State make_with_state"),
        (eqx.serialise, eqx_serialise, "save load CheckpointError"),
        (eqx.debug, eqx_filter.debug, "announce_transform assert_max_traces explain_retrace"),
        (eqx.internal, eqx_core.internal, "Static ω str2jax GetKey closure_to_pytree"),
        (eqx.internal, eqx_filter.internal, "create_vprim filter_primitive_bind nontraceable unvmap_any noinline"),
        (eqx.loops, eqx_loops, ""),
    ],
)
def test_names_are_the_same_objects(mine, theirs, names):
    assert [name for name in names.split() if getattr(mine, name) is not getattr(theirs, name)] == []


@pytest.mark.parametrize("name", ["debug", "internal", "loops", "nn", "serialise"])
def test_each_part_can_be_imported_by_itself(name):
    assert importlib.import_module(f"eqx.{name}") is getattr(eqx, name)


def test_the_version_is_that_of_the_distribution():
    assert eqx.__version__ == importlib.metadata.version("eqx")


def test_importing_loads_nothing_heavy():
    heavy = "equinox matplotlib onnx optax orbax rich tensorflow torch treescope"
    assert set(heavy.split()) & set(run("import sys, eqx; print(*sys.modules)")) == set()


def test_importing_touches_no_device():
    """A platform that does not exist is an error as soon as one is asked for."""
    run("import os; os.environ['JAX_PLATFORMS'] = 'nowhere'; import eqx")
