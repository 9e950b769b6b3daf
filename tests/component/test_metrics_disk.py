"""A disk that hangs takes its numbers from a scrape and from `status`, and nothing else."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace

from airside.agent.probes import Probes
from airside.agent.status import LiveStatus
from airside.core.errors import StoreError
from airside.diagnostics.verdict import verdict_of
from airside.page.routes import _compared
from airside.telemetry.health import examine
from support.waiting import wait_until


@dataclass
class Services:
    """The services that probes ask, without any work."""

    address: str = "127.0.0.1:5050"
    connections: tuple[int, int] = (1, 0)
    queued: int = 0
    waiting: int = 0
    running: dict = field(default_factory=dict)
    has_looked: bool = True

    def describe(self):
        return SimpleNamespace(get=lambda _key: None)

    def away(self):
        return []


class Watcher:
    def describe(self):
        return []

    def unsettled(self):
        return 0


def test_a_scrape_and_the_probes_answer_while_the_disk_hangs(node, monkeypatch):
    free, calls = threading.Event(), []

    def hang(_self):
        calls.append(1)
        free.wait(60)
        raise StoreError("the disk is gone")

    async def ask():
        services = Services()
        with ThreadPoolExecutor(1) as reads:
            probes = Probes(
                node,
                node.settings,
                registry=services,
                watcher=Watcher(),
                queue=services,
                runtimes=services,
                reads=reads,
            )
            endpoints = probes.endpoints()
            for _ in range(3):
                health = await examine(endpoints._ready)
                numbers = await endpoints._collect(health)
                assert "[-] store: its disk does not answer" in health.to_text(verbose=True)
                assert numbers["airside_sample_up"] == {("catalog",): 1, ("space",): 0}
                assert "airside_filesystem_free_bytes" not in numbers
                assert "airside_imports_total" in numbers
                assert (await examine(endpoints._live)).is_good

    with monkeypatch.context() as patch:
        patch.setattr(type(node.garbage), "space", hang)
        asyncio.run(ask())
        assert len(calls) == 1
        free.set()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "telemetry"])


def test_status_and_the_page_answer_while_the_disk_hangs(node, monkeypatch):
    free, threads = threading.Event(), []

    def hang(_self):
        threads.append(threading.current_thread().name)
        free.wait(60)
        raise StoreError("the disk is gone")

    async def ask():
        runtimes = SimpleNamespace(describe=list, behind=lambda: 0)
        live = LiveStatus(
            node.settings,
            node,
            registry=SimpleNamespace(describe=dict),
            watcher=Watcher(),
            runtimes=runtimes,
            queue=Services(),
            maintenance=SimpleNamespace(is_indexing=False),
        )
        reports = [await live.report() for _ in range(3)]
        assert [each["space"] for each in reports] == [None] * 3
        assert _compared(0, reports[0]) == _compared(0, reports[1] | {"uptime_seconds": 99})
        found = verdict_of(reports[0] | {"archives": {}, "images": 1})
        assert found.first.code == "no-disk"
        assert str(node.settings.data) in found.sentence

    with monkeypatch.context() as patch:
        patch.setattr(type(node.garbage), "space", hang)
        asyncio.run(ask())
        free.set()
    assert threads == ["telemetry"]
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "telemetry"])
