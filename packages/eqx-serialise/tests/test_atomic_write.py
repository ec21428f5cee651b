"""A path stands for the old file or for the new one, whatever goes wrong."""

import errno
import os
import stat

import jax.numpy as jnp
import numpy as np
import pytest

import eqx_serialise

OLD, NEW = {"weight": jnp.zeros(5)}, {"weight": jnp.arange(5.0)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    eqx_serialise.save(path, OLD)
    return path


def holds(path, tree):
    loaded = eqx_serialise.load(path, tree)
    return np.array_equal(loaded["weight"], tree["weight"])


def test_a_file_is_replaced_and_nothing_is_left_beside_it(path):
    eqx_serialise.save(path, NEW)
    eqx_serialise.save(path, NEW)
    assert holds(path, NEW)
    assert os.listdir(path.parent) == [path.name]


def test_the_name_is_kept_as_given(tmp_path):
    for name in ["a", "a.eqx", "a.b.c", ".hidden"]:
        eqx_serialise.save(str(tmp_path / name), NEW)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a", "a.b.c", "a.eqx"]


def test_a_bare_name_is_written_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    eqx_serialise.save("model", NEW)
    assert holds("model", NEW)


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_save_that_fails_keeps_the_old_file_and_leaves_nothing(path, monkeypatch, call, error):
    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        if call == "open":
            patch.setattr("builtins.open", fail)
        else:
            patch.setattr(os, call, fail)
        with pytest.raises(type(error)):
            eqx_serialise.save(path, NEW)
    assert holds(path, OLD)
    assert os.listdir(path.parent) == [path.name]


def test_an_array_that_cannot_be_read_keeps_the_old_file_and_leaves_nothing(path):
    gone = jnp.ones(3)
    gone.delete()
    with pytest.raises(RuntimeError, match=r"values are at hand; got none at `\['gone'\]`"):
        eqx_serialise.save(path, NEW | {"gone": gone})
    assert holds(path, OLD)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="Root may write all.")
def test_a_folder_that_cannot_be_written_is_an_error_and_keeps_the_old_file(path):
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            eqx_serialise.save(path, NEW)
        assert holds(path, OLD)
    finally:
        path.parent.chmod(0o700)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        eqx_serialise.save(tmp_path / "nowhere" / "model", NEW)


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(OSError, match=r"must be a regular file; got something else"):
        eqx_serialise.save(tmp_path, NEW)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="This system has no named pipes.")
def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"must be a regular file"):
        eqx_serialise.save(tmp_path / "pipe", NEW)
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


@pytest.mark.skipif(os.name != "posix", reason="Permissions and links are those of POSIX.")
def test_a_new_file_has_the_permissions_that_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        eqx_serialise.save(tmp_path / "model", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "model").st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="Permissions and links are those of POSIX.")
def test_an_old_file_keeps_its_permissions(path):
    path.chmod(0o600)
    eqx_serialise.save(path, NEW)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="Permissions and links are those of POSIX.")
def test_a_link_is_followed(path):
    link = path.parent / "latest"
    link.symlink_to(path.name)
    eqx_serialise.save(link, NEW)
    assert link.is_symlink()
    assert holds(path, NEW)


def test_everything_reaches_the_disk_before_the_name_does(path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("sync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *a: (events.append("name"), replace(*a)))
    eqx_serialise.save(path, NEW)
    assert events == (["sync", "name", "sync"] if os.name == "posix" else ["sync", "name"])
