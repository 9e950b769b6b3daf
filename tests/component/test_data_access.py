"""Only the agent's user reads the data directory, and one process at a time works on it."""

import asyncio
import errno
import fcntl
import grp
import json
import logging
import os
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest
from aiohttp import web

from airside.agent.control_socket import serving_control
from airside.archive.sample import write_sample
from airside.cli.main import main
from airside.containerd.mirror.atomic_file import change_file
from airside.core.errors import ConfigError, ConflictError, StoreError
from airside.store import data_lock
from airside.store.access_modes import check_owner
from airside.store.data_directory import open_data_directory
from airside.store.filesystem import make_directories
from airside.store.local import LocalStore
from airside.store.quarantine import Quarantine
from support.nodes import node_at

BLOB, PRIVATE, DIRECTORY = 0o444, 0o600, 0o700


@pytest.fixture(params=[0, 0o022, 0o077], ids=["umask-0", "umask-022", "umask-077"])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@contextmanager
def umask_of(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(data):
    """What another user could read or write if DATA itself were open; blobs are read-only."""
    found = {}
    for path in [data, *data.rglob("*")]:
        wanted = DIRECTORY if path.is_dir() else PRIVATE
        if path.parent.parent.name == "blobs":
            wanted = BLOB
        if mode_of(path) != wanted:
            found[str(path.relative_to(data))] = oct(mode_of(path))
    return found


def test_a_command_makes_a_private_data_directory_whatever_the_umask(
    tmp_path, monkeypatch, capsys, umask
):
    monkeypatch.setenv("AIRSIDE_RUNTIME", "none")
    sample, data = tmp_path / "hello.tar", tmp_path / "new/var/data"
    write_sample(sample)
    assert main(["import", "--data", str(data), str(sample)]) == 0
    assert open_to_others(data) == {}
    assert main(["gc", "--data", str(data)]) == 0
    assert list((data / "oci/blobs/sha256").iterdir())
    assert open_to_others(data) == {}
    assert [mode_of(data.parent), mode_of(data.parent.parent)] == [0o755, 0o755]
    assert os.umask(umask) == umask  # the command has put it back
    capsys.readouterr()


def test_an_open_data_directory_is_closed_at_the_start_with_one_line(tmp_path, caplog):
    data, outside = tmp_path / "data", tmp_path / "outside"
    outside.write_text("somebody's")
    with umask_of(0), open_data_directory(data):
        LocalStore(data / "oci", data / "ingest").prepare()
    for path in [data, *data.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    (data / "planted").symlink_to(outside)
    outside.chmod(0o644)
    with caplog.at_level(logging.WARNING), open_data_directory(data):
        assert not any(mode_of(p) & 0o077 for p in data.rglob("*") if not p.is_symlink())
        assert mode_of(data) == DIRECTORY
    assert mode_of(outside) == 0o644
    assert len(caplog.records) == 1
    assert "was open to other users" in caplog.text
    assert "airside verify" in caplog.text
    caplog.clear()
    with open_data_directory(data):
        pass
    assert caplog.records == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make files of others")
def test_what_others_left_in_an_open_data_directory_is_named_and_not_written_through(
    tmp_path, caplog
):
    data, outside = tmp_path / "data", tmp_path / "outside"
    outside.write_text("somebody's")
    (data / "oci").mkdir(parents=True)
    data.chmod(0o777)
    planted = [".format.tmp", "reserve", "oci/.oci-layout.tmp", "oci/.index.json.tmp"]
    for name in planted:
        (data / name).symlink_to(outside)
        os.lchown(data / name, USER, USER)
    with open_data_directory(data) as reserve:
        store = LocalStore(data / "oci", data / "ingest")
        store.prepare()
        store.write_index(b"{}")
        reserve.restore()
    assert outside.read_text() == "somebody's"
    assert "4 entries are theirs" in caplog.text
    assert "reserve" in caplog.text


def test_a_store_behind_a_link_of_ours_is_closed_too(tmp_path):
    data, disk = tmp_path / "data", tmp_path / "disk"
    data.mkdir()
    disk.mkdir(0o755)
    (data / "oci").symlink_to(disk)
    with open_data_directory(data):
        assert mode_of(disk) == DIRECTORY


@pytest.mark.usefixtures("umask")
def test_quarantine_and_blobs_keep_their_modes_whatever_the_umask(tmp_path):
    store = LocalStore(tmp_path / "oci", tmp_path / "ingest")
    store.prepare()
    ingest = store.put(b"layer")
    store.commit([ingest])
    assert mode_of(store.path(ingest.digest)) == BLOB
    quarantine = Quarantine(tmp_path / "quarantine")
    quarantine.take(store.path(ingest.digest), ingest.digest, unreadable=False)
    assert mode_of(quarantine.directory) == DIRECTORY


def test_a_group_reaches_the_socket_only(tmp_path):
    group = grp.getgrgid(os.getegid()).gr_name
    data = tmp_path / "data"
    for name in (group, str(os.getegid())):
        with open_data_directory(data, group=name):
            LocalStore(data / "oci", data / "ingest").prepare()
            assert mode_of(data) == 0o750
            assert data.stat().st_gid == os.getegid()
            assert mode_of(data / "oci") == DIRECTORY
    with pytest.raises(ConfigError, match="no group"), open_data_directory(data, group="no-such"):
        pass


def test_a_socket_that_cannot_be_given_to_the_group_is_said_to_be_one(tmp_path, monkeypatch):
    """As where DATA is another user's, and the agent is no member of the group."""
    monkeypatch.setattr(os, "chown", Mock(side_effect=PermissionError(errno.EPERM, "refused")))

    async def serve():
        async with serving_control(web.Application(), tmp_path, group=4242):
            pass

    with pytest.raises(ConfigError, match=f"cannot give {tmp_path}/airside.sock to the group 4242"):
        asyncio.run(serve())
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_another_user_is_said_to_be_one(tmp_path, monkeypatch, caplog):
    data = tmp_path / "data"
    data.mkdir(0o700)
    owner = data.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 4242)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreError, match=f"belongs to .*this is the user {owner + 4242}") as raised:
        check_owner(data)
    assert isinstance(raised.value.__cause__, PermissionError)
    monkeypatch.setattr(os, "access", lambda *_: True)  # by its group: a volume of a pod
    check_owner(data)
    assert "its owner can read it" in caplog.text


@pytest.mark.usefixtures("umask")
def test_mirror_settings_can_be_read_whatever_the_umask(tmp_path):
    file = tmp_path / "etc/containerd/certs.d/docker.io/hosts.toml"
    change_file(file, None, "server = ''\n")
    assert mode_of(file) == 0o644
    assert {mode_of(p) for p in (file.parent, file.parent.parent, file.parents[2])} == {0o755}
    make_directories(tmp_path / "images")
    assert mode_of(tmp_path / "images") == 0o755


_AS_USER = """
import importlib, os, pkgutil, sys
import encodings.ascii
import airside
for module in pkgutil.walk_packages(airside.__path__, "airside."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
user = int(sys.argv[1])
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
sys.exit(airside.cli.main.main(sys.argv[2:]))
"""
"""Runs a command as a user who may not read this Python's own files."""
USER = 54_321


def as_user(*words):
    return subprocess.run(
        [sys.executable, "-c", _AS_USER, str(USER), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_user_has_a_data_directory_of_their_own_also_after_root_worked_on_it(monkeypatch, capsys):
    monkeypatch.setenv("AIRSIDE_RUNTIME", "none")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        top = Path(name)
        top.chmod(0o755)
        (top / "home").mkdir()
        os.chown(top / "home", USER, USER)
        data, sample, theirs = top / "home/data", top / "hello.tar", top / "theirs"
        write_sample(sample)
        sample.chmod(0o644)
        assert as_user("import", "--data", data, sample).returncode == 0
        assert open_to_others(data) == {}
        assert main(["gc", "--data", str(data)]) == 0  # as root
        found = as_user("import", "--data", data, sample)
        assert found.returncode == 0, found
        with open_data_directory(theirs):
            pass
        refused = as_user("gc", "--data", theirs)
        assert refused.returncode == 1
        assert "sudo" in refused.stderr
        agent = as_user("run", "--data", theirs, "--images", top / "home")
        assert agent.returncode == 1
        assert f"belongs to the user root, and this is the user {USER}" in agent.stderr
    capsys.readouterr()


# The lock


def second_process(data):
    """Tries to open the directory in another process; gives what it says."""
    program = (
        "import sys; from pathlib import Path\n"
        "from airside.core.errors import ConflictError\n"
        "from airside.store.data_directory import open_data_directory\n"
        "try:\n"
        "    with open_data_directory(Path(sys.argv[1])): print('opened')\n"
        "except ConflictError as exc: print(exc.message)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(data)], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("replaced", [False, True])
def test_a_deleted_lock_file_lets_nobody_in(tmp_path, replaced):
    data = tmp_path / "data"
    with open_data_directory(data):
        (data / "lock").unlink()
        if replaced:
            (data / "lock").write_text("1\n")
        for _ in range(2):  # the refused one leaves nothing that misleads the next
            assert f"is in use by the process {os.getpid()}:" in second_process(data)
    assert second_process(data) == "opened\n"


def test_the_lock_of_an_earlier_version_is_respected(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with (data / "lock").open("w") as file:  # it locked the file alone
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711\n")
        file.flush()
        with pytest.raises(ConflictError, match="process 4711"), open_data_directory(data):
            pass


def test_a_file_system_without_locks_of_directories_has_that_of_the_file(tmp_path, monkeypatch):
    real = fcntl.flock

    def flock(descriptor, operation):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "not open for writing")
        real(descriptor, operation)

    monkeypatch.setattr(data_lock.fcntl, "flock", flock)
    with (
        open_data_directory(tmp_path),
        pytest.raises(ConflictError),
        open_data_directory(tmp_path),
    ):
        pass


def test_a_file_system_without_locks_is_said_to_be_one(tmp_path, monkeypatch):
    failing = Mock(side_effect=OSError(errno.ENOLCK, "No locks available"))
    monkeypatch.setattr(data_lock.fcntl, "flock", failing)
    with (
        pytest.raises(StoreError, match=f"cannot lock {tmp_path}.*No locks available"),
        open_data_directory(tmp_path),
    ):
        pass


def test_a_file_system_without_modes_holds_a_data_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "chmod", Mock(side_effect=OSError(errno.EPERM, "not permitted")))
    monkeypatch.setattr(os, "fchmod", os.chmod)
    data = tmp_path / "new/data"
    with node_at(data) as node:
        store = node.store
        store.commit([store.put(b"a blob")])
        assert [store.stat(digest) for digest in store.digests()] == [6]


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    outside.write_text("somebody's")
    (data / "lock").symlink_to(outside)
    with pytest.raises(StoreError), open_data_directory(data):
        pass
    assert outside.read_text() == "somebody's"


def test_the_setting_of_the_group_is_shown(capsys):
    main(["config", "show", "--json"])
    assert "data_group" in json.dumps(json.loads(capsys.readouterr().out))
