"""A save that fails says why and for which file, and the old file is still there, with nothing beside it."""

import builtins
import errno
import io
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_serialise

OLD = {"weight": jnp.zeros(5)}
NEW = {"weight": jnp.arange(40_000.0), "bias": jnp.ones(3)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    eqx_serialise.save(path, OLD)
    return path


def is_as_before(path):
    np.testing.assert_array_equal(eqx_serialise.load(path, OLD)["weight"], OLD["weight"])
    return os.listdir(path.parent) == [path.name]


class Faulty(io.FileIO):
    """A file on a disk that gives up at the n-th write, read or flush."""

    def __init__(self, path, mode, code, left, call):
        super().__init__(path, mode)
        self.code, self.left, self.call = code, left, call

    def _count(self, call):
        self.left -= call == self.call
        if self.left < 0 and call == self.call:
            raise OSError(self.code, os.strerror(self.code))

    def write(self, content):
        self._count("write")
        return super().write(memoryview(content)[:7000])

    def readinto(self, buffer):
        self._count("readinto")
        return super().readinto(memoryview(buffer)[:7000])

    def seek(self, *place):
        self._count("seek")
        return super().seek(*place)

    def flush(self):
        self._count("flush")


def error_of(call):
    """Return the error of the operating system that a call ends with, or None."""
    try:
        call()
    except OSError as error:
        return error
    return None


def give_up(monkeypatch, path, code, left, call):
    """Make files beside `path`, and itself, fail at a call; return a list of those that were opened."""
    files, real = [], builtins.open

    def open_faulty(name, mode="r", *args, **kwargs):
        if "b" not in mode or not str(name).startswith(str(path.parent)):
            return real(name, mode, *args, **kwargs)
        files.append(Faulty(name, mode, code, left, call))
        return files[-1]

    monkeypatch.setattr(builtins, "open", open_faulty)
    return files


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["write", "seek"])
def test_a_disk_that_gives_up_at_any_write_is_an_error_that_names_the_file(path, monkeypatch, code, call):
    for failures in itertools.count():
        with monkeypatch.context() as patch:
            files = give_up(patch, path, code, failures, call)
            error = error_of(lambda: eqx_serialise.save(path, NEW))
        assert all(file.closed for file in files)
        if error is None:
            break
        assert (error.errno, error.filename) == (code, str(path))
        assert str(path) in str(error)
        assert is_as_before(path)
    assert failures >= {"write": 20, "seek": 1}[call]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_a_disk_that_gives_up_later_is_an_error_that_names_the_file(path, monkeypatch, call, code):
    def fail(*args):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match=r"model\.safetensors") as error:
            eqx_serialise.save(path, NEW)
    assert error.value.errno == code
    assert is_as_before(path)


def test_a_folder_that_does_not_reach_the_disk_is_an_error_and_the_new_file_is_whole(path, monkeypatch):
    if os.name != "posix":
        pytest.skip("Folders cannot be synced on this system.")
    calls, fsync = [], os.fsync

    def fail_second(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_second)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        eqx_serialise.save(path, NEW)
    np.testing.assert_array_equal(eqx_serialise.load(path, NEW)["weight"], NEW["weight"])


@pytest.mark.skipif(sys.platform != "linux", reason="The largest file of a process is limited as Linux does it.")
def test_a_file_larger_than_the_system_allows_is_an_error_and_the_old_file_stays(path):
    program = """
    import resource, sys, numpy, eqx_serialise
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        eqx_serialise.save(sys.argv[1], {"weight": numpy.zeros(50_000)})
    except OSError as error:
        print(error.errno, error.filename)
    """
    words = [sys.executable, "-c", textwrap.dedent(program), path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(errno.EFBIG), str(path)], done.stderr
    assert is_as_before(path)


@pytest.mark.skipif(sys.platform != "linux", reason="Another user is become as on Linux.")
def test_a_folder_that_may_not_be_written_is_an_error_and_the_old_file_stays():
    if os.geteuid():
        pytest.skip("Only root may become another user; test_atomic_write.py tests the others.")
    program = """
    import os, sys, numpy, eqx_serialise
    os.seteuid(65534)
    try:
        eqx_serialise.save(sys.argv[1], {"weight": numpy.zeros(3)})
    except PermissionError as error:
        print("refused", error)
    """
    # Not in pytest's own folders, into which another user cannot look.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.safetensors")
        eqx_serialise.save(path, OLD)
        path.parent.chmod(0o555)
        words = [sys.executable, "-c", textwrap.dedent(program), path]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.stdout.startswith("refused"), done.stderr
        assert "model.safetensors" in done.stdout
        assert is_as_before(path)


@jtu.register_pytree_node_class
class Breaks:
    """A node of the user whose own code raises an error while it is saved."""

    def tree_flatten(self):
        raise ZeroDivisionError("the user's own")

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls()


def test_an_error_in_the_code_of_the_user_keeps_the_old_file(path):
    with pytest.raises(ZeroDivisionError, match="the user's own"):
        eqx_serialise.save(path, {"weight": jnp.ones(3), "node": Breaks()})
    assert is_as_before(path)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_error_in_a_filter_of_the_user_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "model.eqx"
    eqx_serialise.tree_serialise_leaves(path, OLD)
    before = path.read_bytes()

    def breaks(file, leaf):
        file.write(b"half of it")
        raise error

    with pytest.raises((eqx_serialise.LeafError, error)):
        eqx_serialise.tree_serialise_leaves(path, NEW, filter_spec=breaks)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_disk_that_cannot_be_read_is_an_error_that_names_the_file(path, monkeypatch):
    eqx_serialise.save(path, NEW)
    for failures in itertools.count():
        with monkeypatch.context() as patch:
            give_up(patch, path, errno.EIO, failures, "readinto")
            error = error_of(lambda: eqx_serialise.load(path, NEW))
        if error is None:
            break
        assert (error.errno, error.filename) == (errno.EIO, str(path))
    assert failures >= 3
