"""A program that was written for Equinox runs with only its import changed, and unchanged under the alias."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("optax", reason="the program trains with optax")

PROGRAM = Path(__file__).parent / "programs" / "written_for_equinox.py"
IMPORT = "import equinox as eqx\n"
NUMBER = re.compile(r"-?\d+\.\d+")


def run(*arguments):
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def under_the_alias():
    return run("-W", "error", "-m", "eqx.equinox_alias", PROGRAM)


def test_it_computes_something(under_the_alias):
    names = {line.partition(":")[0].partition(",")[0] for line in under_the_alias.splitlines()}
    parts = {"perceptron", "frozen layer", "recurrent", "convolutional", "stateful", "ensemble", "serialisation"}
    assert parts <= names
    assert "serialisation: True\n" in under_the_alias
    assert "nan" not in under_the_alias


def test_changing_the_import_gives_the_same(under_the_alias, tmp_path):
    changed = PROGRAM.read_text().replace(IMPORT, "import eqx\n")
    assert IMPORT not in changed
    file = tmp_path / "changed.py"
    file.write_text(changed)
    assert run("-W", "error", file) == under_the_alias


@pytest.mark.skipif(importlib.util.find_spec("equinox") is None, reason="equinox is not installed")
def test_equinox_itself_gives_the_same(under_the_alias):
    ours, theirs = under_the_alias, run(PROGRAM)
    assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
    np.testing.assert_allclose([*map(float, NUMBER.findall(ours))], [*map(float, NUMBER.findall(theirs))], atol=2e-3)
