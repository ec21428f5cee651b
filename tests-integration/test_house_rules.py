"""The house rules that linters cannot check, for whatever packages there are."""

import ast
import importlib
import importlib.metadata
import itertools
import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VAGUE = {"utils", "helpers", "misc", "common", "base", "types"}
ALIASES = {"jax.numpy": "jnp", "jax.random": "jr", "jax.tree_util": "jtu"}
# `jax.core.Tracer` is the one name there that JAX documents.
PRIVATE_JAX = re.compile(r"jax\._src|jax\.interpreters|jax\.core\.(?!Tracer\b)|jaxlib")


class Package:
    """One package under `packages/`, as its files say."""

    def __init__(self, folder):
        self.name = folder.name
        self.import_name = self.name.replace("-", "_")
        self.folder = folder
        self.source = folder / "src" / self.import_name
        pyproject = tomllib.loads((folder / "pyproject.toml").read_text())
        self.project = pyproject["project"]
        self.layers = pyproject["tool"]["eqx"]["layers"]
        self.modules = sorted(self.source.rglob("*.py"))

    def requirements(self):
        """Return `(name, specifier)` for each dependency, extras included."""
        extras = self.project.get("optional-dependencies", {})
        lines = itertools.chain(self.project["dependencies"], *extras.values())
        return [re.fullmatch(r"([\w.-]+)(?:\[.*\])?(.*)", line).groups() for line in lines]

    def dependencies(self):
        """Return the names of the distributions that it requires, extras aside."""
        return [re.match(r"[\w.-]+", line)[0] for line in self.project["dependencies"]]

    def third_parties(self):
        """Return the top names that it imports, its own and the standard library's aside."""
        names = {name.partition(".")[0] for _, name, _ in self.imports()}
        return names - sys.stdlib_module_names - {self.import_name}

    def imports(self):
        """Yield `(module file, imported name, its alias or None)` for each absolute import."""
        for file in self.modules:
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    yield from ((file, alias.name, alias.asname) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    for alias in node.names:
                        yield file, f"{node.module}.{alias.name}", alias.asname


PACKAGES = [Package(file.parent) for file in sorted(ROOT.glob("packages/*/pyproject.toml"))]
SIBLINGS = {package.name for package in PACKAGES}
VERSION = PACKAGES[0].project["version"]

each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


def _exports(module):
    """Return what a package's `__init__` re-exports, submodules aside, by name."""
    exports = {name: getattr(module, name) for name in _exported_names(module)}
    return {name: x for name, x in exports.items() if not isinstance(x, types.ModuleType)}


def _exported_names(module):
    """Return the names that `__init__.py` spells as `X as X`, those loaded on first use included."""
    body = ast.parse(Path(module.__file__).read_text()).body
    body += [statement for node in body if _is_for_type_checkers(node) for statement in node.body]
    aliases = [alias for node in body if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    return {alias.asname for alias in aliases if alias.asname and not alias.asname.startswith("_")}


def _is_for_type_checkers(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not node.orelse


@each_package
def test_there_is_one_version(package):
    assert package.project["version"] == VERSION
    assert importlib.metadata.version(package.name) == VERSION
    assert importlib.import_module(package.import_name).__version__ == VERSION


@each_package
def test_siblings_are_required_at_this_version(package):
    specifiers = {spec for name, spec in package.requirements() if name in SIBLINGS}
    assert specifiers <= {f"~={VERSION}"}


@each_package
def test_third_parties_have_a_floor_and_no_ceiling(package):
    specifiers = [spec for name, spec in package.requirements() if name not in SIBLINGS]
    assert [spec for spec in specifiers if not re.fullmatch(r">=[\d.]+", spec)] == []


@each_package
def test_package_says_that_it_is_typed(package):
    assert (package.source / "py.typed").is_file()


@each_package
def test_licence_is_the_repositorys(package):
    assert (package.folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@each_package
def test_no_module_is_over_400_lines(package):
    lengths = {file.name: len(file.read_text().splitlines()) for file in package.modules}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


@each_package
def test_every_file_is_named_for_what_it_does(package):
    names = [path.stem.lstrip("_") for path in package.source.rglob("*")]
    assert VAGUE.isdisjoint(names)


@each_package
def test_every_module_has_its_place_in_the_reading_order(package):
    listed = re.split(r"\s*[|:]\s*|\n", "\n".join(package.layers))
    paths = [path for path in package.source.iterdir() if path.suffix == ".py" or path.is_dir()]
    present = {path.stem for path in paths} - {"__init__", "__pycache__"}
    assert sorted(filter(None, listed)) == sorted(present)


@each_package
def test_every_public_name_is_documented(package):
    exports = _exports(importlib.import_module(package.import_name))
    assert [n for n, x in exports.items() if callable(x) and not (x.__doc__ or "").strip()] == []


@each_package
def test_index_does_nothing_but_name(package):
    allowed = ast.Import | ast.ImportFrom | ast.Assign | ast.Expr | ast.FunctionDef
    body = ast.parse((package.source / "__init__.py").read_text()).body
    body += [statement for node in body if _is_for_type_checkers(node) for statement in node.body]
    others = [node for node in body if not isinstance(node, allowed) and not _is_for_type_checkers(node)]
    assert [type(node).__name__ for node in others] == []


@each_package
def test_what_is_loaded_on_first_use_is_what_type_checkers_see(package):
    module = importlib.import_module(package.import_name)
    assert {name for name in _exported_names(module) if not hasattr(module, name)} == set()
    assert _exported_names(module) <= set(dir(module))


@each_package
def test_what_is_imported_is_declared(package):
    required = {name.replace("-", "_") for name, _ in package.requirements()}
    assert package.third_parties() - required == set()


@each_package
def test_what_is_declared_is_imported(package):
    if not package.layers:
        pytest.skip("holds nothing yet")
    declared = {name.replace("-", "_") for name in package.dependencies()}
    assert declared - package.third_parties() == set()


@each_package
def test_a_package_imports_itself_relatively(package):
    own = [file.name for file, name, _ in package.imports() if name.partition(".")[0] == package.import_name]
    assert own == []


@each_package
def test_a_siblings_private_modules_are_left_alone(package):
    imports = {sibling.import_name for sibling in PACKAGES} - {package.import_name}
    names = [name.split(".") for _, name, _ in package.imports()]
    assert [n for n in names if n[0] in imports and any(p.startswith("_") for p in n[1:])] == []


@each_package
def test_jax_goes_by_its_usual_names(package):
    jax = [(n, alias) for _, n, alias in package.imports() if n in ALIASES or n == "jax"]
    assert [(n, alias) for n, alias in jax if alias != ALIASES.get(n)] == []


@each_package
def test_only_one_file_reaches_into_jax(package):
    """And none in eqx-core."""
    used = [(file, name) for file, name, _ in package.imports()]
    for file in package.modules:
        attributes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)]
        used += [(file, ast.unparse(node)) for node in attributes]
    reaching = {file.name for file, name in used if PRIVATE_JAX.match(name)}
    assert reaching <= (set() if package.name == "eqx-core" else {"_jax_compat.py"})


def test_saving_needs_no_transforms():
    (package,) = [package for package in PACKAGES if package.name == "eqx-serialise"]
    assert "eqx-filter" not in package.dependencies()


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("eqx_core", "eqx"),
        ("eqx_filter", "eqx"),
        ("eqx_serialise", "eqx.serialise"),
        ("eqx_nn", "eqx.nn"),
        ("eqx_loops", "eqx.loops"),
    ],
)
def test_umbrella_re_exports_every_public_name_as_the_same_object(source, place):
    exports = _exports(importlib.import_module(source))
    umbrella = importlib.import_module("eqx")
    for part in place.split(".")[1:]:
        umbrella = getattr(umbrella, part)
    assert [n for n, x in exports.items() if getattr(umbrella, n, None) is not x] == []
