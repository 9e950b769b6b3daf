"""The reports to systemd, received as systemd receives them."""

import asyncio
import os
import socket
from contextlib import closing, suppress

import pytest

from airside.agent.service_manager import ServiceManager
from support.waiting import LIMIT_SECONDS


@pytest.fixture
def systemd(tmp_path):
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(tmp_path / "n.sock"))
        sock.settimeout(LIMIT_SECONDS)
        yield sock


def manager_of(systemd, patience_seconds=LIMIT_SECONDS, **environ):
    found = {"NOTIFY_SOCKET": systemd.getsockname()} | environ
    return ServiceManager(found, patience_seconds)


def told(systemd):
    return systemd.recv(1000).decode().splitlines()


def until_told(systemd, line):
    while line not in told(systemd):
        pass


def run_until_told(manager, systemd, lines):
    """Runs the beats until so many reports came; returns them."""
    return asyncio.run(_until_told(manager, systemd, lines))


async def _until_told(manager, systemd, lines):
    beating = asyncio.create_task(manager.run())
    found = [await asyncio.to_thread(told, systemd) for _ in range(lines)]
    beating.cancel()
    with suppress(asyncio.CancelledError):
        await beating
    return found


def test_a_start_is_ready_when_the_agent_says_so(systemd):
    manager = manager_of(systemd)
    with manager.starting():
        assert told(systemd)[0].startswith("STATUS=")
        manager.ready("serving 127.0.0.1:5050;\nwatching /a")
        ready = ["READY=1", "STATUS=serving 127.0.0.1:5050; watching /a"]
        assert told(systemd) == ready
    manager.stopping()
    assert told(systemd)[0] == "STOPPING=1"


def test_a_start_that_repairs_for_long_is_called_ready_and_beats(systemd):
    manager = manager_of(systemd, 0.01, WATCHDOG_USEC="40000")
    with manager.starting():
        until_told(systemd, "READY=1")
        assert [told(systemd) for _ in range(2)] == [["WATCHDOG=1"]] * 2
        manager.ready("serving")
        until_told(systemd, "STATUS=serving")


def test_a_start_that_fails_leaves_no_thread(systemd):
    with pytest.raises(ZeroDivisionError), manager_of(systemd).starting():
        _ = 1 / 0


def test_the_event_loop_beats_at_a_quarter_of_the_units_time(systemd):
    manager = manager_of(systemd, WATCHDOG_USEC="40000", WATCHDOG_PID=str(os.getpid()))
    assert run_until_told(manager, systemd, 3) == [["WATCHDOG=1"]] * 3


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}])
def test_a_unit_without_a_watchdog_is_asked_for_one(systemd, environ):
    found = run_until_told(manager_of(systemd, **environ), systemd, 2)
    assert found == [["WATCHDOG_USEC=60000000"], ["WATCHDOG=1"]]


def test_without_systemd_nothing_is_reported(tmp_path):
    for address in ({}, {"NOTIFY_SOCKET": "nobody"}):
        manager = ServiceManager(address)
        with manager.starting():
            manager.ready("x")
        asyncio.run(manager.run())
        manager.stopping()
    gone = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.ready("nobody listens any more")
