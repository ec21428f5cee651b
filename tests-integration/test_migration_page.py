"""The programs of other libraries that the page on coming from elsewhere shows run."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/migration.md").read_text()
NEEDS = {"flax_linen": "flax", "flax_nnx": "flax", "haiku_model": "haiku", "pytorch": "torch"}


def test_the_page_shows_each_of_them():
    assert re.findall(r"coming_from/(\w+)\.py", PAGE) == list(NEEDS)


@pytest.mark.parametrize("name", NEEDS)
def test_it_runs(name):
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    program = ROOT / "tests-integration/programs/coming_from" / f"{name}.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
