"""The package has its name and version, and importing it costs little."""

import importlib.metadata
import subprocess
import sys

import eqx_loops


def test_the_version_is_that_of_the_distribution():
    assert eqx_loops.__version__ == importlib.metadata.version("eqx-loops")


def test_importing_touches_no_device():
    """A platform that does not exist is an error as soon as one is asked for."""
    script = "import os; os.environ['JAX_PLATFORMS'] = 'nowhere'; import eqx_loops"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
