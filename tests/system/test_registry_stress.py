"""Many clients at once while garbage collection, retention and scrub run; see `support.stress`.

`TESTS_OPERATIONS` says how many operations (`make stress` asks for 20,000), `TESTS_SEED` which.
"""

import asyncio
import os
import random
import threading
from collections import Counter
from typing import Self

import pytest

from support.agent import Agent
from support.size import sized
from support.sound import open_catalog
from support.stress import RING, RING_KEEPS, compare, run_clients

pytestmark = pytest.mark.system

OPERATIONS = int(os.environ.get("TESTS_OPERATIONS", "0")) or sized(600, 20_000)
SEED = int(os.environ.get("TESTS_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
CLIENTS = 50
CONFIG = f"""
[[retention_rules]]
repositories = ["{RING}/**"]
keep_last = {RING_KEEPS}

[limits]
uploads = 1000
"""


class Cleaning:
    """Collects garbage and scrubs again and again, in a thread."""

    def __init__(self, agent: Agent) -> None:
        self._agent, self._stop = agent, threading.Event()
        self.rounds: Counter[str] = Counter()
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(k,)) for k in ("gc", "verify")]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, what: str) -> None:
        while not self._stop.wait(0.3):
            try:
                told = self._agent.ask(f"/v1/{what}", method="POST", body={})
            except TimeoutError:  # it goes on by itself: a loaded machine
                self.rounds[f"{what}, slow"] += 1
                continue
            except Exception as exc:  # noqa: BLE001 - told below
                self.errors.append(f"{what}: {exc!r}")
                return
            if "error" in str(told)[:20]:
                self.errors.append(f"{what}: {told}")
            self.rounds[what] += 1


def test_nothing_is_lost_while_everything_happens_at_once(tmp_path, capsys):
    with capsys.disabled():
        print(f"\nstress: seed {SEED}, {OPERATIONS} operations, {CLIENTS} clients", flush=True)
    agent = Agent(tmp_path / "images", tmp_path / "data", config=CONFIG)
    with agent, Cleaning(agent) as cleaning:
        clients, failures = asyncio.run(run_clients(agent.registry, SEED, CLIENTS, OPERATIONS))
        done = sum((client.done for client in clients), Counter())
        with capsys.disabled():
            print(f"stress: {dict(done)}, meanwhile {dict(cleaning.rounds)}", flush=True)
        assert failures == []
    with agent:
        agent.ask("/v1/gc", method="POST", body={})
        assert asyncio.run(compare(agent.registry, clients)) == []
        assert cleaning.errors == []
        assert cleaning.rounds["gc"]
        assert cleaning.rounds["verify"]
        assert agent.logged("error") == []
    with open_catalog(tmp_path / "data") as db:
        states = dict(db.execute("SELECT state, count(*) FROM blob GROUP BY state"))
    assert set(states) == {"held"}
