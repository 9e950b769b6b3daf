"""The data directory and the control socket of a running agent, as other users see them."""

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airside.archive.sample import write_sample
from support.agent import Agent, ControlConnection
from support.users import directory_for_all

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user"),
]

MEMBER, STRANGER, GROUP = 54_321, 54_322, 54_323


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with directory_for_all() as directory:
        yield directory


@pytest.fixture(scope="module")
def agent(place: Path) -> Iterator[Agent]:
    """An agent that was started with umask 0 on a data directory of before, open to all."""
    images, data = place / "images", place / "data"
    images.mkdir()
    images.chmod(0o755)
    data.mkdir()
    data.chmod(0o777)
    write_sample(images / "hello.tar")
    running = Agent(
        images,
        data,
        environ={"AIRSIDE_DATA_GROUP": str(GROUP)},
        before=["sh", "-c", 'umask 0; exec "$@"', "sh"],
    )
    with running:
        running.wait_imported(images / "hello.tar")
        yield running


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


_COMMAND = """
import importlib, os, pkgutil, sys
import airside.cli
user, groups, *words = sys.argv[1:]
for module in pkgutil.iter_modules(airside.cli.__path__, "airside.cli."):
    importlib.import_module(module.name)
os.setgroups([int(group) for group in groups.split(",") if group])
os.setresgid(int(user), int(user), int(user))
os.setresuid(int(user), int(user), int(user))
sys.exit(airside.cli.main.main(words))
"""
"""Runs a command as another user, who may not read this Python's own files."""


def _airside(
    agent: Agent, user: int, command: str, *words: object, groups: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    numbers = ",".join(map(str, groups))
    program = [sys.executable, "-c", _COMMAND, str(user), numbers, command, "--data", agent.data]
    return subprocess.run(
        list(map(str, [*program, *words])), capture_output=True, text=True, check=False
    )


def _can_read(user: int, path: Path, groups: tuple[int, ...] = ()) -> bool:
    found = subprocess.run(
        ["cat", str(path)],
        user=user,
        group=user,
        extra_groups=groups,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return found.returncode == 0


def test_an_agent_with_umask_0_makes_nothing_that_others_read(agent: Agent) -> None:
    data = agent.data
    blobs = list((data / "oci/blobs/sha256").iterdir())
    assert blobs
    assert {_mode(blob) for blob in blobs} == {0o444}
    others = {path: _mode(path) for path in data.rglob("*") if path not in blobs}
    socket = data / "airside.sock"
    assert others.pop(socket) == 0o660
    assert {path for path, mode in others.items() if mode & 0o077} == set()
    assert (_mode(data), data.stat().st_gid, socket.stat().st_gid) == (0o750, GROUP, GROUP)
    assert [text for text in agent.complaints() if "was open to other users" in text]


def test_neither_strangers_nor_the_group_read_a_blob(agent: Agent) -> None:
    blob = next((agent.data / "oci/blobs/sha256").iterdir())
    for name in (blob, agent.data / "catalog.db", agent.data / "oci/index.json"):
        assert not _can_read(STRANGER, name)
        assert not _can_read(MEMBER, name, (GROUP,))


def test_members_of_the_group_use_the_socket_and_strangers_do_not(agent: Agent) -> None:
    found = _airside(agent, MEMBER, "images", "--json", groups=(GROUP,))
    assert json.loads(found.stdout)["items"], found
    refused = _airside(agent, STRANGER, "images")
    assert refused.returncode == 1
    assert "permission denied" in refused.stderr
    assert str(GROUP) in refused.stderr


def test_a_second_agent_does_not_start_after_the_lock_file_was_deleted(agent: Agent) -> None:
    (agent.data / "lock").unlink()
    second = Agent(agent.images_paths[0], agent.data)
    second.log_path = agent.data.with_name("second.log")
    second.launch()
    assert second.wait_exit() == 1
    assert f"in use by the process {agent.pid}" in second.log


# Importing on a member's behalf


@pytest.fixture
def outside(place: Path) -> Iterator[Path]:
    """A directory that is not watched, in which a member may write."""
    with tempfile.TemporaryDirectory(dir=place) as name:
        os.chown(name, MEMBER, MEMBER)
        Path(name).chmod(0o755)
        yield Path(name)


def _archive(path: Path, *, owner: int = 0, group: int = 0, mode: int = 0o600) -> Path:
    write_sample(path)
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


def _import(agent: Agent, *paths: Path) -> list[dict[str, str]]:
    found = _airside(agent, MEMBER, "import", "--json", *paths, groups=(GROUP,))
    return list(json.loads(found.stdout)["items"])


def test_a_member_imports_what_the_member_may_read(agent: Agent, outside: Path) -> None:
    own = _archive(outside / "own.tar", owner=MEMBER)
    by_group = _archive(outside / "group.tar", group=GROUP, mode=0o640)
    watched = _archive(agent.watched / "private.tar")
    linked = outside / "link.tar"
    linked.symlink_to(own)
    found = _import(agent, own, by_group, watched, linked)
    assert [item["state"] for item in found] == ["imported"] * 4, found


def test_a_member_imports_nothing_that_only_the_agent_may_read(agent: Agent, outside: Path) -> None:
    private = _archive(outside / "private.tar")
    closed = outside / "closed"
    closed.mkdir(0o700)
    _archive(closed / "there.tar", mode=0o644)
    link, way = outside / "link.tar", outside / "way"
    link.symlink_to(private)
    way.symlink_to(closed)
    known = set(agent.archives())
    refused = [private, link, closed / "there.tar", closed / "absent.tar", way / "there.tar"]
    found = _import(agent, *refused)
    assert {item["state"] for item in found} == {"unreadable"}, found
    reasons = {item["reason"].replace(item["path"], "PATH") for item in found}
    assert len(reasons) == 1  # also whether a file exists is not told
    assert f"uid {MEMBER}" in reasons.pop()
    assert set(agent.archives()) == known
    assert agent.import_file(private)["result"]["state"] == "imported"  # root may


def test_a_layout_of_a_member_leads_to_nothing_that_only_the_agent_may_read(
    agent: Agent, outside: Path
) -> None:
    layout = outside / "layout"
    shutil.copytree(agent.data / "oci", layout)
    blobs = layout / "blobs/sha256"
    for path in [layout, *layout.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(path, MEMBER, MEMBER)
    assert _import(agent, layout)[0]["state"] == "imported"
    taken = max(blobs.iterdir(), key=lambda blob: blob.stat().st_size)
    secret = outside / taken.name
    taken.rename(secret)
    secret.chmod(0o600)
    os.chown(secret, 0, 0)
    taken.symlink_to(secret)
    (found,) = _import(agent, layout)
    assert found["state"] != "imported", found
    assert "cannot be read" in found["reason"]


def test_what_the_agent_itself_has_open_is_no_file_of_a_member(agent: Agent) -> None:
    numbers = [path.name for path in Path(f"/proc/{agent.pid}/fd").iterdir()]
    places = [Path(f"/proc/{who}/fd") for who in ("self", agent.pid)]
    found = _import(agent, *(place / number for place in places for number in numbers))
    assert {item["state"] for item in found} <= {"unreadable", "failed"}, found


_NUL = "/etc\0/x"
_REFUSED: tuple[tuple[str, object], ...] = (
    *((f"/v1/events?after={n}", None) for n in ("-1", "9" * 19, "9" * 5000, "x", "%D9%A1")),
    ("/v1/events?follow=1&after=" + "9" * 30, None),
    ("/v1/events?limit=" + "9" * 30, None),
    ("/v1/explain?what=%00", None),
    ("/v1/explain?what=/" + "a" * 5000, None),
    ("/v1/import", {"path": _NUL}),
    ("/v1/import", {"path": "/a/../b"}),
    ("/v1/import", {"path": ["/a"]}),
    ("/v1/rollback", {"reference": "airside/hello:1\0"}),
    ("/v1/rollback", {"reference": "airside/hello:1", "digest": 10**30}),
    ("/v1/gc", {"dry_run": "true"}),
    ("/v1/gc", {"dryrun": True}),
    ("/v1/verify", {"repair": 1}),
    ("/v1/acknowledge", []),
)


def test_values_that_nothing_can_have_are_refused_with_a_reason(agent: Agent) -> None:
    for path, body in _REFUSED:
        status, answer = _ask(agent, path, None if body is None else json.dumps(body).encode())
        assert status == 400, (path, body, answer)
        assert json.loads(answer)["error"]["code"] in {"request_invalid", "reference_invalid"}
    for name in ("import", "rollback", "gc", "verify"):
        status, answer = _ask(agent, f"/v1/{name}", b"[" * 200_000, "application/json; charset=x")
        assert (status, json.loads(answer)["error"]["code"]) == (400, "request_invalid")
    status, _ = _ask(agent, f"/v1/explain?what=/{'a' * 300}")  # longer than a name may be
    assert status == 200
    assert not agent.logged("error", "critical")


def _ask(
    agent: Agent, path: str, body: bytes | None = None, kind: str = "application/json"
) -> tuple[int, bytes]:
    with contextlib.closing(ControlConnection(agent.data)) as connection:
        method = "GET" if body is None else "POST"
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read()
