"""The examples run, in short form: what they print, what they write, and how they refuse."""

import importlib.util
import re
import runpy
import struct
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
DIGITS = EXAMPLES / "digits.py"
NEEDED = ["matplotlib", "optax", "rich", "sklearn"]

needs_the_demo_group = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)), reason=f"needs {', '.join(NEEDED)}"
)


def _run(*arguments, script=DIGITS):
    return subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True, text=True)


def _size_of_png(file):
    content = file.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[-8:-4] == b"IEND"
    return struct.unpack(">II", content[16:24])


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """The folder, and the finished process, of two epochs."""
    folder = tmp_path_factory.mktemp("digits") / "made" / "for it"
    return folder, _run("--epochs", 2, "--batch-size", 32, "--require", 40, "--seed", 1, "--out", folder)


@needs_the_demo_group
def test_digits_are_learnt_and_the_model_comes_back_bit_for_bit(short_run):
    folder, done = short_run
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Network(\n")
    assert "60,522 parameters; 1437 digits to train on, 360 held out" in done.stdout
    assert "88/88 steps, loss " in done.stdout
    assert float(re.search(r"held-out accuracy: ([\d.]+) %", done.stdout)[1]) > 40
    assert "loaded in a new process, into a model built from shapes only: the same scores, bit for bit" in done.stdout
    assert {file.name for file in folder.iterdir()} == {"digits.png", "digits.safetensors"}


@needs_the_demo_group
def test_digits_draw_a_picture(short_run):
    folder, _ = short_run
    width, height = _size_of_png(folder / "digits.png")
    assert 1000 <= width <= 2000
    assert 500 <= height <= 1200
    assert 30_000 < (folder / "digits.png").stat().st_size < 500_000


@needs_the_demo_group
def test_too_low_an_accuracy_is_a_failure(tmp_path):
    done = _run("--epochs", 1, "--batch-size", 700, "--out", tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"the held-out accuracy, [\d.]+ %, is below the required 97 %\n", done.stderr)


@needs_the_demo_group
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: must be an integer of at least 1; got '0'"),
        (["--batch-size", "2000"], "argument --batch-size: must be at most 1437, the number of training images"),
        (["--rate", "nan"], "argument --rate: must be a number above 0; got 'nan'"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--out", f"{DIGITS}/folder"], f"argument --out: cannot write to '{DIGITS}/folder': Not a directory"),
        (["--load", "not there", "--out", "{tmp}"], "argument --load: cannot read 'not there'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["digits.py", *(argument.format(tmp=tmp_path) for argument in arguments)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(DIGITS), run_name="__main__")
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "")
    assert err.startswith(f"digits.py: error: {message}")
    assert err.count("\n") == 1


@needs_the_demo_group
def test_a_file_that_is_no_model_is_refused(tmp_path):
    done = _run("--load", DIGITS, "--out", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot load {DIGITS}: ")
    assert "Traceback" not in done.stderr


@needs_the_demo_group
def test_help_explains_every_option(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["digits.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(DIGITS), run_name="__main__")
    text = capsys.readouterr().out
    for option in ("--epochs", "--batch-size", "--rate", "--seed", "--require", "--out", "--load"):
        assert re.search(rf"{option} [A-Z_]+\s+\w", text)


@needs_the_demo_group
def test_a_residual_network_learns_digits_and_is_saved_with_its_state(tmp_path):
    options = ("--epochs", 3, "--width", 4, "--batch-size", 128, "--rate", 0.03, "--require", 40, "--out", tmp_path)
    done = _run(*options, script=EXAMPLES / "resnet_digits.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1437 digits to train on, 360 held out" in done.stdout
    assert "33/33 steps, loss " in done.stdout
    assert float(re.search(r"held-out accuracy: ([\d.]+) %", done.stdout)[1]) > 40
    assert "model and state; loaded, they give the same predictions" in done.stdout
    assert {file.name for file in tmp_path.iterdir()} == {"resnet.png", "resnet.safetensors"}
    assert _size_of_png(tmp_path / "resnet.png")[0] >= 1000


@needs_the_demo_group
def test_a_recurrent_network_learns_which_way_spirals_turn(tmp_path):
    options = (
        "--steps",
        60,
        "--length",
        12,
        "--batch-size",
        32,
        "--hidden-size",
        12,
        "--require",
        80,
        "--out",
        tmp_path,
    )
    done = _run(*options, script=EXAMPLES / "spiral_rnn.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("RNN(\n")
    assert "60/60 steps, loss " in done.stdout
    assert float(re.search(r"held-out accuracy: ([\d.]+) %", done.stdout)[1]) > 80
    assert {file.name for file in tmp_path.iterdir()} == {"spirals.png"}
    assert _size_of_png(tmp_path / "spirals.png")[0] >= 1000


@needs_the_demo_group
@pytest.mark.parametrize("script", ["resnet_digits.py", "spiral_rnn.py"])
def test_layers_examples_explain_and_refuse(script, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for argument, code in (("--help", 0), ("--batch-size=0", 2)):
        monkeypatch.setattr(sys, "argv", [script, argument])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        assert stopped.value.code == code
    out, err = capsys.readouterr()
    for option in re.findall(r"--[a-z-]+", out.partition("options:")[0]):
        assert re.search(rf"{option} [A-Z_]+\s+\w", out)
    assert re.search(r"argument --batch-size: must be an integer of at least \d; got '0'", err)


SHORT = {
    "from_scratch": ["--steps", 20],
    "mlp": ["--steps", 20],
    "frozen_layer": ["--steps", 20],
    "ensemble": ["--steps", 20, "--members", 3],
    "byte_gpt": ["--steps", 2, "--batch-size", 2, "--bytes", 100000, "--write", 2],
    "neural_ode": ["--steps", 2, "--batch-size", 4],
}


@needs_the_demo_group
@pytest.mark.parametrize("name", SHORT)
def test_the_example_runs_in_short_and_draws(name, tmp_path):
    if name == "neural_ode":
        pytest.importorskip("diffrax", reason="needs diffrax")
    done = _run("--out", tmp_path, *SHORT[name], script=EXAMPLES / f"{name}.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{name}.png" in done.stdout
    width, _ = _size_of_png(tmp_path / f"{name}.png")
    assert width > 500


@needs_the_demo_group
@pytest.mark.parametrize("name", [name for name in SHORT if name != "neural_ode"])
def test_the_example_explains_its_options(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "--out" in capsys.readouterr().out


def test_every_example_has_a_page_and_a_picture():
    names = {file.stem for file in EXAMPLES.glob("*.py")}
    docs = EXAMPLES.parent / "docs"
    assert names == {file.stem for file in docs.glob("examples/*.md")}
    assert names == {file.stem for file in docs.glob("pictures/*.png")}
