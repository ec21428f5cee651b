"""What the package shows, and what importing it costs."""

import os
import subprocess
import sys

import pytest

import eqx_serialise

NAMES = [
    "CheckpointError",
    "Contents",
    "FileDiff",
    "FileDifference",
    "LeafError",
    "Migration",
    "StoredLeaf",
    "convert",
    "default_deserialise_filter_spec",
    "default_serialise_filter_spec",
    "diff",
    "inspect",
    "load",
    "migration",
    "save",
    "tree_deserialise_leaves",
    "tree_serialise_leaves",
    "verify",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_exists_and_is_documented(name):
    assert getattr(eqx_serialise, name).__doc__


def test_nothing_else_is_public():
    public = {name for name in vars(eqx_serialise) if not name.startswith("_")}
    assert public == set(NAMES)


def test_the_version_is_that_of_the_installed_package():
    assert eqx_serialise.__version__[0].isdigit()


def test_importing_touches_no_device_and_pulls_in_nothing_heavy():
    code = (
        "import sys, eqx_serialise;"
        "heavy = {'torch', 'safetensors', 'orbax', 'rich', 'matplotlib', 'pickletools'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    # A platform that does not exist: whatever asks for a device fails.
    environment = os.environ | {"JAX_PLATFORMS": "none"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
