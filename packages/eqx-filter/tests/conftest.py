"""Run checks on eight devices, which a process must ask for before JAX starts."""

import importlib.util
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import jax
import pytest


@pytest.fixture(scope="module")
def on_eight_devices(request):
    """Run what is named in `CHECKS` of a test file with each of its `KINDS`, in one process of eight devices.

    Returns:
      For each `f"{check}-{kind}"` how it went: "passed" or a traceback.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, request.path],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _outcome(check, kind):
    try:
        check(kind)
    except Exception:
        return traceback.format_exc()
    return "passed"


def _run_all(path):
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert len(jax.devices()) == 8
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    # Where pickle and dataclasses look for what is defined in it.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    print(
        json.dumps({f"{n}-{kind}": _outcome(getattr(module, n), kind) for n in module.CHECKS for kind in module.KINDS})
    )


if __name__ == "__main__":
    _run_all(Path(sys.argv[1]))
