"""Which agent publishes to a containerd that two have found."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from airside.containerd.agent_claim import RENEW_SECONDS, SILENT_SECONDS, AgentClaim, Claimant
from airside.containerd.agent_process import AgentProcess, parse_process
from airside.containerd.services.leases import LeaseRecord
from airside.core.errors import ConflictError

BOOT = "b00t"
OWN = AgentProcess.own(BOOT)


class MemoryLeases:
    """The leases of one namespace."""

    def __init__(self) -> None:
        self.held: dict[str, LeaseRecord] = {}

    def records(self) -> list[LeaseRecord]:
        return list(self.held.values())

    def create(
        self, lease: str, *, seconds: float, labels: Mapping[str, str] | None = None
    ) -> None:
        assert seconds > SILENT_SECONDS
        if lease in self.held:
            raise ConflictError("it is there")
        self.held[lease] = LeaseRecord(lease, dict(labels or {}))

    def delete(self, lease: str, *, seconds: float = 60.0) -> None:
        assert seconds
        self.held.pop(lease, None)


class Site:
    """One containerd, and the agents that find it."""

    def __init__(self, directory: Path) -> None:
        self.leases, self.directory, self.now = MemoryLeases(), directory, 0.0
        self.claims: list[AgentClaim] = []

    def agent(
        self, identity: str, *, sees_directory: bool = True, process: AgentProcess = OWN
    ) -> AgentClaim:
        made = AgentClaim(
            self.leases,  # type: ignore[arg-type]
            self.directory if sees_directory else None,
            Claimant(identity, f"/data/{identity}", process),
            lambda: self.now,
        )
        self.claims.append(made)
        return made

    def kill(self, claim: AgentClaim) -> None:
        """As SIGKILL: the kernel ends the lock, and the lease stays."""
        claim._unlock()


@pytest.fixture
def site(tmp_path: Path):
    directory = tmp_path / "content"
    directory.mkdir()
    made = Site(directory)
    yield made
    for claim in made.claims:
        claim.release()


ELSEWHERE = AgentProcess(BOOT, 1, 17, 4)
"""A process of this boot in another PID namespace: whether it runs cannot be told."""


@pytest.mark.parametrize("sees_directory", [True, False])
def test_the_second_is_told_who_the_first_is(site: Site, sees_directory: bool) -> None:  # noqa: FBT001
    first = site.agent("one", sees_directory=sees_directory)
    second = site.agent("two", sees_directory=sees_directory)
    assert first.take() is None
    for _ in range(2):
        other = second.take()
        assert other is not None
        assert (other.identity, other.data, other.pid) == ("one", "/data/one", os.getpid())
        assert first.take() is None
    first.release()
    assert second.take() is None
    assert first.take() is not None


@pytest.mark.parametrize("sees_directory", [True, False])
def test_a_killed_agent_does_not_block_its_successor(site: Site, sees_directory: bool) -> None:  # noqa: FBT001
    first = site.agent("one", sees_directory=sees_directory, process=ELSEWHERE)
    assert first.take() is None
    site.kill(first)
    assert site.agent("one", sees_directory=sees_directory).take() is None
    assert len(site.leases.held) == 1


def test_a_killed_agent_does_not_block_another_data_directory(site: Site) -> None:
    first = site.agent("one", process=ELSEWHERE)
    assert first.take() is None
    site.kill(first)
    assert site.agent("two").take() is None
    [lease] = site.leases.held.values()
    assert lease.labels["io.airside.agent"] == "two"


@pytest.mark.parametrize(
    "process",
    [
        AgentProcess("another-boot", OWN.namespace, OWN.pid, OWN.started),
        AgentProcess(BOOT, OWN.namespace, OWN.pid, OWN.started + 1),
        AgentProcess(BOOT, OWN.namespace, 2**22 + 1, OWN.started),
    ],
)
def test_an_ended_process_is_known_without_a_lock(site: Site, process: AgentProcess) -> None:
    assert site.agent("one", sees_directory=False, process=process).take() is None
    assert site.agent("two", sees_directory=False).take() is None


def test_an_agent_of_which_nothing_is_known_is_dead_when_it_is_silent(site: Site) -> None:
    first = site.agent("one", sees_directory=False, process=ELSEWHERE)
    second = site.agent("two", sees_directory=False)
    assert first.take() is None
    for _ in range(4):  # it renews
        site.now += SILENT_SECONDS * 0.6
        assert second.take() is not None
        assert first.take() is None
    site.now += SILENT_SECONDS * 0.6
    assert second.take() is not None
    site.now += SILENT_SECONDS * 1.1
    assert second.take() is None


def test_an_agent_without_the_lock_counts_for_one_that_has_it(site: Site) -> None:
    first = site.agent("one", sees_directory=False, process=ELSEWHERE)
    second, third = site.agent("two"), site.agent("three")
    assert first.take() is None
    assert second.take() is not None
    assert third.take() is not None
    first.release()
    assert third.take() is None
    assert second.take() is not None


def test_of_two_that_look_at_the_same_time_one_publishes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (site.agent(name, sees_directory=False) for name in ("one", "two"))
    assert one.take() is None
    early = dict(site.leases.held)
    site.leases.held.clear()
    create = site.leases.create

    def late(lease: str, *, seconds: float, labels: Mapping[str, str] | None = None) -> None:
        """The lease of the first appears between the look and the lease of the second."""
        site.leases.held.update(early)
        create(lease, seconds=seconds, labels=labels)

    monkeypatch.setattr(site.leases, "create", late)
    two.take()
    monkeypatch.undo()
    assert (one.take(), two.take()).count(None) == 1
    assert (one.take(), two.take()).count(None) == 1


def test_the_lease_is_renewed_and_made_again_where_it_was_deleted(site: Site) -> None:
    claim = site.agent("one")
    assert claim.take() is None
    [before] = site.leases.held
    assert claim.take() is None
    assert list(site.leases.held) == [before]
    site.now += RENEW_SECONDS + 1
    assert claim.take() is None
    [after] = site.leases.held
    assert after != before
    site.leases.held.clear()  # containerd was wiped, or an expired lease collected
    assert claim.take() is None
    assert len(site.leases.held) == 1
    claim.release()
    assert site.leases.held == {}


def test_a_long_pass_renews_the_lease(site: Site) -> None:
    claim = site.agent("one", sees_directory=False, process=ELSEWHERE)
    claim.keep()
    assert site.leases.held == {}  # it has no claim yet
    assert claim.take() is None
    [before] = site.leases.held
    claim.keep()
    assert list(site.leases.held) == [before]
    site.now += RENEW_SECONDS + 1
    claim.keep()
    [after] = site.leases.held
    assert after != before
    claim.release()
    site.now += RENEW_SECONDS + 1
    claim.keep()
    assert site.leases.held == {}


def test_a_wiped_directory_is_another_one(site: Site, tmp_path: Path) -> None:
    first = site.agent("one")
    assert first.take() is None
    site.directory.rename(tmp_path / "old")
    site.directory.mkdir()
    second = site.agent("two")
    assert second.take() is None
    assert first.take() is not None


@pytest.mark.parametrize("text", ["", "x", "a b c d", "1 2 3"])
def test_a_process_that_cannot_be_read_is_not_known(text: str) -> None:
    assert parse_process(text).runs(OWN) is None


def test_a_process_reads_as_it_was_written() -> None:
    assert parse_process(str(OWN)) == OWN
    assert OWN.runs(OWN)
    assert parse_process(str(AgentProcess())) == AgentProcess()
