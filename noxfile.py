"""Every check of this repository, as one session each.

Packages are found by glob and their layers follow from what they declare, so adding a package
needs no edit here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["tests"]

# A missing interpreter is to be reported, not fetched behind the reader's back.
os.environ["UV_PYTHON_DOWNLOADS"] = "never"

ROOT = Path(__file__).parent


def _projects(tree=ROOT):
    files = sorted(tree.glob("packages/*/pyproject.toml"))
    return {file.parent.name: tomllib.loads(file.read_text()) for file in files}


def _declared(project):
    """Return the names of the distributions that a package requires, extras aside."""
    return [re.match(r"[\w.-]+", line)[0] for line in project["project"]["dependencies"]]


def _closure(package, projects):
    """Return `package` and the siblings that it needs, each once, `package` last."""
    below = [name for name in _declared(projects[package]) if name in projects]
    below = [name for sibling in below for name in _closure(sibling, projects)]
    return list(dict.fromkeys([*below, package]))


def _import_name(package):
    return package.replace("-", "_")


PROJECTS = _projects()
# uv caches by name and version, so without this a session judges yesterday's code. Implies
# `--refresh-package`.
FRESH = [f"--reinstall-package={package}" for package in PROJECTS]
SOURCES = [f"packages/{package}" for package in PROJECTS]
EDITABLE = [f"--editable={source}" for source in SOURCES]
EACH_PACKAGE = nox.parametrize("package", [nox.param(name, id=name) for name in PROJECTS])
CPU = {"JAX_PLATFORMS": "cpu"}
PYTEST = ["pytest", "-n", "2", "--dist", "loadfile"]


def _install_all(session, *groups):
    """Install every package as it stands, what their tests need, and groups of the root."""
    groups += tuple(f"{source}/pyproject.toml:test" for source in SOURCES)
    session.install(*FRESH, *EDITABLE, *(f"--group={group}" for group in groups))


# The steps of `tests`, each a session of its own as well.


def _format(session):
    session.run("ruff", "format", "--check", ".")


def _lint(session):
    session.run("ruff", "check", ".")


def _types(session):
    # Node comes from PyPI with everything else, whatever the machine has.
    env = {"PYRIGHT_PYTHON_GLOBAL_NODE": "0", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    session.run("pyright", env=env)


def _layers(session):
    config = Path(session.create_tmp(), "importlinter.toml")
    config.write_text(_layer_contracts())
    session.run("lint-imports", "--config", str(config), "--no-cache")


def _suites(session):
    session.run(*PYTEST, "packages", *session.posargs, env=CPU)


def _integration(session):
    session.run(*PYTEST, "tests-integration", *session.posargs, env=CPU)


STEPS = {
    "format": _format,
    "lint": _lint,
    "types": _types,
    "layers": _layers,
    "suites": _suites,
    "integration": _integration,
}


@nox.session
def tests(session):
    """Everything that must be green: lint, types, layers, every suite, integration."""
    _install_all(session, "lint", "test", "demo")
    rows = []
    for name, step in STEPS.items():
        start = time.monotonic()
        try:
            step(session)
            verdict = "passed"
        except nox.command.CommandFailed:
            verdict = "FAILED"
        rows.append(f"{name:12} {verdict}  {time.monotonic() - start:5.0f} s")
    session.log("ran, in %s:\n  %s", ", ".join(PROJECTS), "\n  ".join(rows))
    if any("FAILED" in row for row in rows):
        session.error("not everything is green")


@nox.session
def demo(session):
    """Train on the real handwritten digits, save, load in a new process, draw."""
    session.install(*FRESH, *SOURCES, "--group", "demo")
    session.run("python", "examples/digits.py", *session.posargs)


@nox.session
def lint(session):
    """Check format and style; `-- --fix` mends what can be mended."""
    session.install("--group", "lint")
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".", success_codes=[0, 1])
        session.run("ruff", "format", ".")
    _format(session)
    _lint(session)


@nox.session
def types(session):
    """Check the types of every package."""
    _install_all(session, "lint")
    _types(session)


@nox.session
def layers(session):
    """Check who imports whom, between packages and inside each."""
    _install_all(session, "lint")
    _layers(session)


def _layer_contracts():
    """Return import-linter's configuration, from what each package declares.

    Between packages, the declared dependencies are the rule. Inside a package, `tool.eqx.layers` of
    its `pyproject.toml` names every module, top to bottom; read from the bottom, it is the order
    in which to read the package.
    """
    contracts = [{"name": "packages", "type": "layers", "layers": _package_layers()}]
    for package, project in PROJECTS.items():
        name, closed = _import_name(package), _closure(package, PROJECTS)
        undeclared = [other for other in PROJECTS if other not in closed]
        if undeclared:
            contracts.append(
                {
                    "name": f"{package} imports only the siblings that it declares",
                    "type": "forbidden",
                    "source_modules": [name],
                    "forbidden_modules": [_import_name(other) for other in undeclared],
                }
            )
        if inside := project["tool"]["eqx"]["layers"]:
            contracts.append(
                {
                    "name": f"inside {package}",
                    "type": "layers",
                    "containers": [name],
                    "layers": inside,
                    "exhaustive": True,
                }
            )
    tables = [{"root_packages": [_import_name(package) for package in PROJECTS]}, *contracts]
    headings = ["[tool.importlinter]"] + ["[[tool.importlinter.contracts]]"] * len(contracts)
    return "\n".join(map(_toml_table, headings, tables))


def _toml_table(heading, table):
    return "\n".join([heading, *(f"{key} = {json.dumps(value)}" for key, value in table.items())])


def _package_layers():
    """Return the packages from top to bottom; those at one height may not import one another."""
    heights = {package: _height(package) for package in PROJECTS}
    rows = [[p for p in PROJECTS if heights[p] == h] for h in sorted(set(heights.values()))]
    return [" | ".join(map(_import_name, row)) for row in reversed(rows)]


def _height(package):
    below = [name for name in _declared(PROJECTS[package]) if name in PROJECTS]
    return 1 + max(map(_height, below), default=0)


@nox.session
@EACH_PACKAGE
def wheel(session, package):
    """Test one package from its wheel, beside only what it declares."""
    _test_from_wheels(session, package, dict.fromkeys(_closure(package, PROJECTS), ROOT))


@nox.session
@EACH_PACKAGE
def minimums(session, package):
    """Test one package from its wheel, beside the oldest of what it declares."""
    trees = dict.fromkeys(_closure(package, PROJECTS), ROOT)
    # What a wheel requires is not direct to uv; what a `pyproject.toml` requires is.
    direct = [f"-r=packages/{name}/pyproject.toml" for name in trees]
    _test_from_wheels(session, package, trees, "--resolution=lowest-direct", *direct)


@nox.session
@EACH_PACKAGE
def skew(session, package):
    """Test one package as last released, beside today's siblings."""
    tag = _git("describe", "--tags", "--abbrev=0", "--match", "v*")
    if tag is None:
        session.skip("nothing has been released yet: there is no tag v*")
    released = _tree_at(tag, Path(session.create_tmp(), "released").resolve())
    projects = _projects(released)
    if package not in projects:
        session.skip(f"{tag} had no {package}")
    siblings = _closure(package, projects)[:-1]
    if not siblings:
        session.skip(f"{package} stands on no sibling")
    if _minor(projects[package]) != _minor(PROJECTS[package]):
        session.skip(f"today's version is a new minor one, which {tag} does not claim to work with")
    _test_from_wheels(session, package, {**dict.fromkeys(siblings, ROOT), package: released})


def _git(*words):
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def _tree_at(tag, folder):
    """Unpack the repository as it was at `tag` into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(["git", "archive", "-o", f"{folder}.tar", tag], cwd=ROOT, check=True)
    with tarfile.open(f"{folder}.tar") as tar:
        tar.extractall(folder, filter="data")
    return folder


def _minor(project):
    return project["project"]["version"].rpartition(".")[0]


def _test_from_wheels(session, package, trees, *options):
    """Test `package` from wheels of `trees`: the source tree of each sibling and of itself."""
    out = Path(session.create_tmp(), "wheels").resolve()
    shutil.rmtree(out, ignore_errors=True)
    for name, tree in trees.items():
        folder = str(tree / "packages" / name)
        session.run("uv", "build", "-q", "--wheel", "-o", str(out), folder, external=True)
    wheels = [str(file) for file in out.glob("*.whl")]
    session.chdir(trees[package])
    own = f"packages/{package}"
    session.install(*FRESH, *wheels, "--group", f"{own}/pyproject.toml:test", "pytest-xdist>=3.6", *options)
    readme = f"tests-integration/test_shown_code.py::test_runs[{own}/README.md]"
    # The installed package is collected for its doctests.
    session.run(*PYTEST, f"{own}/tests", readme, "--pyargs", _import_name(package), env=CPU)


@nox.session
@nox.parametrize("x64", [nox.param("0", id="x32"), nox.param("1", id="x64")])
def integration(session, x64):
    """Test across packages, with 32 or 64 bits by default."""
    _install_all(session, "test", "demo")
    session.run(*PYTEST, "tests-integration", *session.posargs, env={**CPU, "JAX_ENABLE_X64": x64})


@nox.session
def newest_jax(session):
    """Test every package and across them on Python 3.13, which the newest JAX can have."""
    python = _working_python("3.13")
    if python is None:
        session.skip("no working Python 3.13 on this machine")
    session.run("uv", "venv", "-q", "--clear", "-p", python, session.virtualenv.location, external=True)
    _install_all(session, "test", "demo")
    session.run("python", "-c", "import sys, jax; print(sys.version, 'JAX', jax.__version__)")
    _suites(session)
    _integration(session)


def _working_python(version):
    """Return an interpreter that runs; one on `PATH` may be a shim with nothing behind it."""
    found = [shutil.which(f"python{version}")]
    found += sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python"))
    found += sorted(Path.home().glob(f".local/share/uv/python/cpython-{version}*/bin/python"))
    for python in filter(None, found):
        if subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            return str(python)
    return None


@nox.session
def downstream(session):
    """Run real libraries that are built on Equinox on `eqx.equinox_alias`; `-- --suites` adds their own tests."""
    # A requirement that holds nowhere takes the place of what the libraries require.
    without = Path(session.create_tmp(), "without-equinox.txt").resolve()
    without.write_text("equinox ; sys_platform == 'nowhere'\n")
    groups = ["test", "downstream", *(f"{source}/pyproject.toml:test" for source in SOURCES)]
    session.install("--override", str(without), *FRESH, *EDITABLE, *(f"--group={group}" for group in groups))
    session.run("python", "-c", "import importlib.util as i; assert i.find_spec('equinox') is None")
    words = [word for word in session.posargs if word != "--suites"]
    tests = map(str, sorted(Path("tests-integration").glob("test_downstream_*.py")))
    session.run(*PYTEST, "-p", "eqx.equinox_alias", *tests, *words, env=CPU)
    if "--suites" in session.posargs:
        _run_suites_of_others(session)


# Libraries that publish their tests, and which of these say nothing about us: docs/downstream.md has the reasons.
SUITES = {
    "haliax": [
        "--ignore=tests/test_fp8.py",
        "--ignore=tests/test_int8.py",
        "--deselect=tests/test_pool.py::test_mean_pool_1d",
        "--deselect=tests/test_random.py::test_pareto",
    ],
    "paramax": [],
    "quax": ["--deselect=tests/unit/test_fast_module.py::test_degradation_is_not_silent"],
    "tinygp": [],
    "traceax": [],
}


def _run_suites_of_others(session):
    """Run the tests that libraries publish with their sources, each from its own folder."""
    session.install("pip")
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["downstream"]
    folder = Path(session.create_tmp(), "suites").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    for pin in pins:
        name = pin.partition("==")[0]
        if name in SUITES:
            session.run(
                "python", "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", "-d", str(folder), pin
            )
            (archive,) = folder.glob(f"{name}-*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            with session.chdir(folder / archive.name.removesuffix(".tar.gz")):
                # The settings of a library's own project are for its own tools.
                options = ["-c", os.devnull, "--rootdir=.", "-p", "no:cacheprovider"]
                session.run(*PYTEST, "-p", "eqx.equinox_alias", *options, "tests", *SUITES[name], env=CPU)


@nox.session
def gpu(session):
    """Test every package and across them on an NVIDIA GPU, with JAX's CUDA wheels."""
    if shutil.which("nvidia-smi") is None:
        session.skip("no NVIDIA GPU here: nvidia-smi is not on PATH")
    smi = subprocess.run(["nvidia-smi"], capture_output=True, text=True)
    cuda = re.search(r"CUDA Version: (\d+)", smi.stdout)
    if smi.returncode or cuda is None:
        session.skip("nvidia-smi finds no GPU with a driver for CUDA")
    _install_all(session, "test")
    session.install("jax[cuda13]" if int(cuda[1]) >= 13 else "jax[cuda12]")
    env = {
        "JAX_PLATFORMS": "cuda,cpu",
        # The oracles are exact to float32; by default a GPU multiplies matrices with ten bits.
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    session.run("python", "-c", "import jax; print(jax.devices('cuda'))", env=env)
    session.run(*PYTEST, "packages", "tests-integration", *session.posargs, env=env)


@nox.session
def docs(session):
    """Build the site, where a broken link is an error, and look at it in a browser."""
    _install_all(session, "docs", "test")
    env = {"NO_MKDOCS_2_WARNING": "1"}
    session.run("mkdocs", "build", "--strict", *session.posargs, env=env)
    session.run("pytest", "tests-integration/test_site.py", env={**CPU, "EQX_SITE": str(ROOT / "site")})


@nox.session
def fuzz(session):
    """Read damaged and forged checkpoints for ten minutes, or `-- SECONDS`, and flip 100,000 bits of one."""
    folder = "packages/eqx-serialise"
    session.install(*FRESH, *EDITABLE, "--group", f"{folder}/pyproject.toml:test")
    version = session.run("python", "-c", "import sys; print(sys.version_info[:2])", silent=True).strip()
    if version == "(3, 11)" and sys.platform == "linux":
        session.install("atheris>=3.0")
    else:
        session.log("atheris has no wheel for Python %s on %s; files are changed at random", version, sys.platform)
    seconds = session.posargs[0] if session.posargs else "600"
    corpus = Path(session.create_tmp()).resolve()
    script = str(ROOT / folder / "tests" / "fuzz_load.py")
    with session.chdir(corpus):  # Where a file is kept that was read as it must not be.
        session.run("python", script, seconds, env=CPU)
    flips = "test_none_of_many_flipped_bits_goes_unnoticed_in_a_larger_file"
    env = {**CPU, "EQX_FLIPS": "100000"}
    session.run("pytest", f"{folder}/tests/test_corruption.py::{flips}", env=env)


@nox.session
def bench(session):
    """Measure our packages beside their peers, and write the tables and the chart when every topic was measured."""
    session.install(*FRESH, *SOURCES, "--group", "bench")
    session.run("python", "benchmarks/run.py", *session.posargs)
    session.run("python", "benchmarks/report.py")


@nox.session
def build(session):
    """Build what a release publishes, into `dist/`."""
    shutil.rmtree("dist", ignore_errors=True)
    session.install("--group", "build")
    for package in PROJECTS:
        session.run("uv", "build", "-q", "-o", "dist", f"packages/{package}", external=True)
    session.run("twine", "check", "--strict", *map(str, sorted(Path("dist").glob("eqx*"))))


@nox.session(venv_backend="none")
def bump(session):
    """Give every package, every pin on a sibling and the changelog the version `X.Y.Z`."""
    if len(session.posargs) != 1 or not re.fullmatch(r"\d+\.\d+\.\d+", session.posargs[0]):
        session.error("write the version: nox -s bump -- X.Y.Z")
    (version,) = session.posargs
    for package in PROJECTS:
        file = ROOT / "packages" / package / "pyproject.toml"
        text = re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', file.read_text())
        names = "|".join(PROJECTS)
        text = re.sub(rf'"((?:{names})(?:\[\w+\])?)~=[^"]*"', rf'"\1~={version}"', text)
        file.write_text(text)
    log = ROOT / "CHANGELOG.md"
    heading = f"## Unreleased\n\n## {version} ({time.strftime('%Y-%m-%d')})"
    log.write_text(log.read_text().replace("## Unreleased", heading, 1))
