"""Logins: how they end when the registry stops."""

import asyncio
import base64
import threading

import pytest

from airside.registry.auth import login as module
from airside.registry.auth.login import Client, Logins
from airside.registry.rules.accounts import Accounts, decoy_of
from support.waiting import LIMIT_SECONDS, wait_until_async


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:secret".encode()).decode()


def test_a_stop_ends_the_checks_that_wait_and_outlasts_those_that_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go, checked = threading.Semaphore(0), threading.Event(), []

    def check(*_: object) -> bool:
        begun.release()
        go.wait(LIMIT_SECONDS)
        checked.append("done")
        return False

    async def scenario() -> None:
        accounts = Accounts(users={"ann": decoy_of(4)})
        logins = Logins(lambda: accounts)
        asked = [
            asyncio.create_task(logins.identify(basic(f"user{n}"), None, Client(f"192.0.2.{n}")))
            for n in range(module.THREADS + 3)
        ]
        for _ in range(module.THREADS):
            await wait_until_async(lambda: begun.acquire(blocking=False))
        closing = asyncio.create_task(logins.close())
        await wait_until_async(lambda: all(task.done() for task in asked))
        assert not checked
        assert not closing.done()
        go.set()
        await closing
        assert checked == ["done"] * module.THREADS
        assert not logins._running
        assert all(task.cancelled() for task in asked)

    monkeypatch.setattr(module, "check_password", check)
    asyncio.run(scenario(), debug=True)  # in which a call from another thread is an error
