"""The command line says the same as the functions, and its exit code says how it went."""

import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import eqx_serialise
from eqx_serialise.__main__ import main

MODELS = """
import jax, jax.numpy as jnp
model = {"w": jnp.zeros(3), "rate": 0.0}
def build():
    return {"w": jax.ShapeDtypeStruct((3,), jnp.float32), "rate": 0.0}
class Builders:
    model = model
"""


@pytest.fixture
def folder(tmp_path):
    tree = {"w": jnp.arange(3.0), "rate": 0.5}
    eqx_serialise.save(tmp_path / "a", tree)
    eqx_serialise.save(tmp_path / "b", tree | {"rate": 0.25})
    eqx_serialise.tree_serialise_leaves(tmp_path / "old", tree)
    content = bytearray((tmp_path / "a").read_bytes())
    content[-1] ^= 1
    (tmp_path / "bad").write_bytes(content)
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Return a function from the words of a command to its exit code, what it prints, and its complaints."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*words):
        sys.modules.pop("models", None)
        try:
            code = main(words)
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    return call


def test_it_runs_as_a_module(folder):
    command = [sys.executable, "-W", "error", "-m", "eqx_serialise", "verify", "bad", "a"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "'a': 2 leaves are what was written\n"
    assert len(done.stderr.splitlines()) == 1


def test_inspect_prints_the_tables(folder, run):
    code, out, err = run("inspect", "a", "b")
    assert (code, err) == (0, "")
    tables = [repr(eqx_serialise.inspect(folder / name)).replace(str(folder / name), name) for name in "ab"]
    assert out == "\n".join([*tables, ""])


def test_verify_goes_on_after_a_damaged_file(run):
    code, out, err = run("verify", "bad", "a")
    assert code == 1
    assert out == "'a': 2 leaves are what was written\n"
    assert "`verify(path_or_file='bad')` must be a whole and unchanged checkpoint; got other values for `['w']`" in err


@pytest.mark.parametrize(
    ("files", "code", "out"), [("ab", 1, "['rate']  value  0.5 became 0.25\n"), ("aa", 0, "The same is in both.\n")]
)
def test_diff_exits_as_diff_does(run, files, code, out):
    assert run("diff", *files) == (code, out, "")


@pytest.mark.parametrize("like", ["models:model", "models:build", "models:Builders.model"])
def test_convert_writes_a_checkpoint(folder, run, like):
    code, out, err = run("convert", "old.eqx", "new.safetensors", "--like", like)
    assert (code, err) == (0, "")
    assert "['w']" in out
    loaded = eqx_serialise.load(folder / "new.safetensors", {"w": np.zeros(3, "f4"), "rate": 0.0})
    assert (loaded["w"].tolist(), loaded["rate"]) == ([0, 1, 2], 0.5)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["inspect", "nothing"], 2, "No such file"),
        (["inspect", "models.py"], 1, "must be a whole and unchanged checkpoint"),
        (["verify", "nothing", "bad"], 2, "No such file"),
        (["diff", "a", "models.py"], 1, "`diff(b='models.py')` must be a whole and unchanged checkpoint"),
        (["diff", "a"], 2, "required: FILE"),
        ([], 2, "required: COMMAND"),
        (["explode"], 2, "invalid choice"),
        (["convert", "old.eqx", "new"], 2, "required: --like"),
        (["convert", "old.eqx", "new", "--like", "models"], 2, "--like: must be a module and a name in it, as in"),
        (["convert", "old.eqx", "new", "--like", "nomodule:x"], 2, "got 'nomodule:x' (No module named 'nomodule')"),
        (["convert", "old.eqx", "new", "--like", "models:nothing"], 2, "has no attribute 'nothing'"),
        (["convert", "a", "new", "--like", "models:model"], 2, "No such file"),
        (
            ["convert", "models.py", "new", "--like", "models:model"],
            1,
            "Error at leaf with path (DictKey(key='rate'),)",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_goes_wrong_is_said_in_one_line(folder, run, words, code, text):
    found, _, err = run(*words)
    assert found == code, err
    assert text in err.replace("\n", " ")
    assert not os.path.exists(folder / "new")


def test_help_names_every_command_and_the_exit_codes(run):
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert all(word in out for word in ["inspect", "verify", "diff", "convert", "Exit code: 0"])
    for command in ["inspect", "verify", "diff", "convert"]:
        assert run(command, "--help")[0] == 0
