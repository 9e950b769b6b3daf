"""The streams of open pages: bounded, silent without a change, free without a page."""

import asyncio

import pytest
from aiohttp import ClientSession, web

from airside.page import stream as streams
from airside.page.stream import ChangeStream


class Served:
    """A server with one stream; `state` is what the pages are compared by."""

    def __init__(self):
        self.state, self.looks = (0, 0), 0
        self.stream = ChangeStream(self.look)
        self.answers = []

    async def look(self):
        self.looks += 1
        return self.state

    async def __aenter__(self):
        app = web.Application()
        app.router.add_get("/ui/events", self.stream.respond)
        app.on_shutdown.append(self.stream.stop)
        self.runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        host, port = self.runner.addresses[0][:2]
        self.address = f"http://{host}:{port}/ui/events"
        self.client = ClientSession()
        return self

    async def __aexit__(self, *_):
        for answer in self.answers:
            answer.close()
        await self.client.close()
        await self.runner.cleanup()

    async def open(self):
        answer = await self.client.get(self.address)
        self.answers.append(answer)
        await answer.content.readuntil(b"\n\n")
        return answer


async def event_of(answer):
    while True:
        block = (await answer.content.readuntil(b"\n\n")).decode()
        if block.startswith("event: "):
            return block.split("\n")[0].removeprefix("event: ")


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(streams, "LOOK_SECONDS", 0.01)


def test_a_change_and_progress_are_told_apart():
    async def run():
        async with Served() as served:
            page = await served.open()
            served.state = (0, 1)
            assert await event_of(page) == "progress"
            served.state = (1, 2)
            assert await event_of(page) == "change"

    asyncio.run(run())


def test_nothing_is_compared_without_an_open_page(monkeypatch):
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.01)

    async def run():
        async with Served() as served:
            assert served.looks == 0
            page = await served.open()
            served.state = (1, 0)
            assert await event_of(page) == "change"
            page.close()
            while served.stream.open:  # noqa: ASYNC110 - a heartbeat notices, nothing tells
                await asyncio.sleep(0)
            looks = served.looks
            again = await served.open()
            served.state = (2, 0)
            assert await event_of(again) == "change"
            assert served.looks > looks > 0

    asyncio.run(run())


def test_the_number_of_open_pages_is_bounded(monkeypatch):
    monkeypatch.setattr(streams, "MOST_STREAMS", 2)

    async def run():
        async with Served() as served:
            pages = [await served.open() for _ in range(2)]
            refused = await served.client.get(served.address)
            await refused.read()
            assert (refused.status, refused.headers["Retry-After"]) == (503, "30")
            served.state = (1, 0)
            assert [await event_of(page) for page in pages] == ["change", "change"]

    asyncio.run(run())


def test_a_stop_ends_all_streams():
    async def run():
        async with Served() as served:
            page = await served.open()
            await served.stream.stop(served.runner.app)
            await page.read()
            assert served.stream.open == 0

    asyncio.run(run())
