"""What a page shows, runs: the Python blocks of one page, in order, as one script."""

import runpy
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *ROOT.glob("packages/*/README.md"), *ROOT.glob("docs/**/*.md")]
NAMES = sorted(str(page.relative_to(ROOT)) for page in PAGES)


def _script(page):
    """Return the page with all but its Python blocks blanked, so that line numbers agree."""
    lines, shown = [], False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            shown = line == "```python"
            lines.append("")
        else:
            lines.append(line if shown else "")
    return "\n".join(lines)


@pytest.mark.parametrize("name", NAMES)
def test_runs(name, tmp_path, monkeypatch):
    script = _script(ROOT / name)
    if not script.strip():
        pytest.skip("shows no Python")
    file = tmp_path / "page.py"
    file.write_text(script)
    monkeypatch.chdir(tmp_path)
    # As the reader's own program runs: Optax, which pages use, does not keep to strict promotion.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        runpy.run_path(str(file), run_name="__main__")


def test_ci_runs_the_readmes_test_command():
    (command,) = [line for line in (ROOT / "README.md").read_text().splitlines() if "nox -s tests" in line]
    assert command in (ROOT / ".ci/run").read_text()


def test_every_readme_shows_an_example():
    silent = [name for name in NAMES if "README" in name and not _script(ROOT / name).strip()]
    assert silent == []
