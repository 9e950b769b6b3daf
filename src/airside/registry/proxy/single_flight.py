"""Runs a job once, however many clients wait for its result. For one event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class SingleFlight:
    """Running jobs by key. A client that stops waiting does not end the job."""

    def __init__(self) -> None:
        self._tasks: dict[object, asyncio.Task[Any]] = {}

    async def run(self, key: object, job: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Runs the job, or waits for the one that is running under this key already."""
        task: asyncio.Task[Result] | None = self._tasks.get(key)
        if task is None:
            task = self.start(key, job())
        return await asyncio.shield(task)

    def start(self, key: object, job: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Runs a job in the background; the key must be unused."""
        task = self._tasks[key] = asyncio.create_task(job)
        task.add_done_callback(lambda _done: self._tasks.pop(key, None))
        return task

    async def cancel(self) -> None:
        """Cancels all jobs, and waits until they have ended."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
