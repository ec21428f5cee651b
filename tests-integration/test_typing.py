"""A type checker accepts correct usages and refuses wrong ones, line by line."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "typing"
PYRIGHT = shutil.which("pyright", path=str(Path(sys.executable).parent)) or shutil.which("pyright")


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """Return, by file, the lines with errors and the text of the first of each."""
    if PYRIGHT is None:
        pytest.skip("pyright is not installed: `pip install pyright[nodejs]`")
    # Elsewhere, so that the settings and folders of the repository play no part.
    folder = tmp_path_factory.mktemp("typing")
    for file in FOLDER.glob("*.py"):
        shutil.copy(file, folder)
    paths = [str(path) for path in Path(__file__).parents[1].glob("packages/*/src")]
    settings = {"extraPaths": paths, "typeCheckingMode": "standard", "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [PYRIGHT, "--outputjson", "--pythonpath", sys.executable, "--project", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = {file.name: {} for file in FOLDER.glob("*.py")}
    for message in json.loads(done.stdout)["generalDiagnostics"]:
        if message["severity"] == "error":
            line = message["range"]["start"]["line"] + 1
            found[Path(message["file"]).name].setdefault(line, message["message"])
    return found


def marked(name):
    lines = (FOLDER / name).read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if re.search(r"# error\b", line)}


def test_correct_usages_are_accepted(refused):
    assert marked("correct.py") == set()
    assert refused["correct.py"] == {}


def test_wrong_usages_are_refused_where_they_are_wrong(refused):
    assert len(marked("wrong.py")) > 20
    accepted = marked("wrong.py") - set(refused["wrong.py"])
    assert accepted == set()
    assert {line: text for line, text in refused["wrong.py"].items() if line not in marked("wrong.py")} == {}


def test_correct_usages_run():
    done = subprocess.run([sys.executable, "-W", "error", FOLDER / "correct.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
