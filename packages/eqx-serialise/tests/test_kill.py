"""Whenever a save is killed, the old file or the new one is there, whole, and the next save tidies up."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import eqx_serialise

fcntl = pytest.importorskip("fcntl", reason="Locks and signals are those of POSIX.")

PROGRAM = Path(__file__).with_name("killed_save.py")
OLD, NEW = {"weight": jnp.zeros(5)}, {"weight": jnp.arange(5.0)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    eqx_serialise.save(path, OLD)
    return path


def beside(path, digits="0123456789abcdef"):
    return path.with_name(f".{path.name}.{digits}.tmp")


def killed_at_every_system_call(folder, before):
    if sys.platform != "linux":
        pytest.skip("A process is traced by ptrace of Linux.")
    done = subprocess.run(
        [sys.executable, "-W", "error", PROGRAM, folder, before], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if "untraceable" in found:
        pytest.skip(f"Processes may not be traced here: {found['untraceable']}.")
    return found


def test_a_save_killed_at_any_system_call_leaves_the_old_file_or_the_new_one(tmp_path):
    found = killed_at_every_system_call(tmp_path, "old")
    assert not found["wrong"]
    assert found["none"] == 0
    # Before and after each of: create, lock, write, sync, rename, sync the folder.
    assert found["stops"] >= 20
    assert found["old"] >= 10
    assert found["new"] >= 2
    assert found["left"] >= 10
    assert not found["unswept"]


def test_a_first_save_killed_at_any_system_call_leaves_nothing_or_the_new_file(tmp_path):
    found = killed_at_every_system_call(tmp_path, "nothing")
    assert not found["wrong"]
    assert found["old"] == 0
    assert found["none"] >= 10
    assert found["new"] >= 2
    assert not found["unswept"]


def test_only_leftovers_of_the_same_file_are_swept(path):
    others = [
        beside(path.with_name("other")),
        beside(path, "0123"),
        path.with_name(f"x{beside(path).name}"),
        path.with_name(f"{path.name}.tmp"),
    ]
    for file in [beside(path), *others]:
        file.touch()
    eqx_serialise.save(path, NEW)
    assert {file.name for file in path.parent.iterdir()} == {path.name, *(file.name for file in others)}


def test_what_only_looks_like_a_leftover_is_neither_followed_nor_waited_for(path):
    target = path.with_name("precious")
    target.write_bytes(b"precious")
    beside(path).symlink_to(target)
    os.mkfifo(beside(path, "f" * 16))
    beside(path, "e" * 16).mkdir()
    eqx_serialise.save(path, NEW)
    assert target.read_bytes() == b"precious"


def test_the_file_of_a_living_writer_is_not_swept(path):
    with open(beside(path), "xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        eqx_serialise.save(path, NEW)
        assert beside(path).exists()
    eqx_serialise.save(path, NEW)
    assert not beside(path).exists()


def test_a_writer_whose_file_is_swept_before_it_is_locked_makes_another(path, monkeypatch):
    flock, swept = fcntl.flock, []

    def sweep_first(file, how):
        if how == fcntl.LOCK_EX and not swept:
            swept.extend(path.parent.glob(".*.tmp"))
            swept[0].unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    eqx_serialise.save(path, NEW)
    assert len(swept) == 1
    assert os.listdir(path.parent) == [path.name]
    np.testing.assert_array_equal(eqx_serialise.load(path, NEW)["weight"], NEW["weight"])


def test_a_save_works_where_there_are_no_locks(path, monkeypatch):
    def no_locks(file, how):
        raise OSError(95, "Operation not supported")

    beside(path).touch()
    monkeypatch.setattr(fcntl, "flock", no_locks)
    eqx_serialise.save(path, NEW)
    np.testing.assert_array_equal(eqx_serialise.load(path, NEW)["weight"], NEW["weight"])
    assert beside(path).exists()  # It might be another writer's.


def test_of_writers_at_once_one_wins_whole_and_a_reader_sees_no_other(path):
    like = {"weight": np.zeros(20000)}
    eqx_serialise.save(path, like)
    errors = []

    def write(number):
        try:
            for _ in range(15):
                eqx_serialise.save(path, {"weight": np.full(20000, float(number))})
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert len(set(eqx_serialise.load(path, like)["weight"])) == 1
    assert not errors
    assert os.listdir(path.parent) == [path.name]
