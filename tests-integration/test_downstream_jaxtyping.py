"""jaxtyping's import hook, with beartype, over every package: all annotations hold while a whole program runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
pytest.importorskip("jaxtyping", reason="jaxtyping is not installed")
pytest.importorskip("beartype", reason="beartype is not installed")
pytest.importorskip("optax", reason="the program trains with optax")

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests-integration" / "programs" / "written_for_equinox.py"
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/src/*/py.typed"))
LAUNCH = """
import runpy, sys, jaxtyping
with jaxtyping.install_import_hook({packages!r}, "beartype.beartype"):
    import eqx, eqx.internal, eqx.loops, eqx.nn, eqx.serialise, eqx.debug
    for part in (eqx, eqx.internal, eqx.loops, eqx.nn, eqx.serialise, eqx.debug):
        [getattr(part, name) for name in dir(part)]
    {first}
    {second}
"""


def run(first, second):
    code = LAUNCH.format(packages=PACKAGES, first=first, second=second)
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def unchecked():
    done = subprocess.run([sys.executable, "-m", "eqx.equinox_alias", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_program_runs_under_the_hook_as_without(unchecked):
    program = f"runpy.run_path({str(PROGRAM)!r}, run_name='program')['main']()"
    assert run("import eqx.equinox_alias", program) == unchecked


def test_the_hook_is_on():
    """A call that breaks an annotation is refused by jaxtyping, not by the function that is called."""
    wrong = "eqx.filter_jit(lambda x: x, donate=3)"
    code = f"\n    try:\n        {wrong}\n    except jaxtyping.TypeCheckError:\n        print('refused')"
    assert run("pass", code) == "refused\n"
