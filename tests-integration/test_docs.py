"""The pages: what they name exists, and what exists is named."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("packages/*/README.md"), *ROOT.glob("docs/**/*.md")])
UMBRELLA = ["eqx", "eqx.debug", "eqx.internal", "eqx.loops", "eqx.nn", "eqx.serialise"]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)")


def _without_code(text):
    return re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page):
    targets = LINK.findall(_without_code(page.read_text()))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def _listed():
    """Return the names that the reference documents, as written after `:::`."""
    pages = (ROOT / "docs/reference").glob("*.md")
    return [name for page in pages for name in re.findall(r"(?m)^::: ([\w.ω]+)$", page.read_text())]


def _spelt(module):
    """Return the public names that the file of `module` spells as `X as X`."""
    tree = ast.parse(Path(importlib.import_module(module).__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.asname for node in imports for alias in node.names if alias.asname == alias.name}
    return {f"{module}.{name}" for name in names if not name.startswith("_")} - set(UMBRELLA)


def _object(name):
    module = max((m for m in UMBRELLA if name.startswith(f"{m}.")), key=len)
    return getattr(importlib.import_module(module), name.removeprefix(f"{module}."))


def test_the_reference_has_every_public_name_once():
    listed = _listed()
    public = set().union(*map(_spelt, UMBRELLA))
    assert sorted(listed) == sorted(set(listed))
    documented = [_object(name) for name in listed]
    assert {name for name in public - set(listed) if not any(_object(name) is x for x in documented)} == set()


@pytest.mark.parametrize("name", _listed())
def test_what_the_reference_names_exists(name):
    _object(name)


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    docs = ROOT / "docs"
    assert [str(p.relative_to(docs)) for p in docs.rglob("*.md") if str(p.relative_to(docs)) not in nav] == []
