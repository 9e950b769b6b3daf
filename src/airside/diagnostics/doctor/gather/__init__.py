"""Collects the facts about this host: checks in parallel, each with a time limit. Blocking.

Reports the error of a failed check beside the results of the others. Changes nothing, except that
one small file is linked into containerd and deleted again (`trial`).
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from airside.core.host_root import host_root
from airside.core.settings import Settings
from airside.diagnostics.doctor.facts import Agent, Facts, Mirror, Runtime, Store, Unseen
from airside.diagnostics.doctor.gather.bounded import RUNTIME_SECONDS, Look
from airside.diagnostics.doctor.gather.hosts import look_at_host
from airside.diagnostics.doctor.gather.kubelets import look_at_kubelet
from airside.diagnostics.doctor.gather.mirrors import look_at_mirrors
from airside.diagnostics.doctor.gather.misses import reach_all
from airside.diagnostics.doctor.gather.registries import ask_registry, time_a_miss
from airside.diagnostics.doctor.gather.runtimes import look_at_runtime, sockets_of
from airside.diagnostics.doctor.gather.stores import look_at_directories, look_at_store
from airside.diagnostics.pull_commands import registry_url


class AgentOrCatalog(Protocol):
    """The agent, or the catalog if none runs. Each method returns within `LOOK_SECONDS`."""

    def agent(self) -> Agent:
        """Returns the state of the agent; its registry is checked separately."""

    def newest_at(self) -> float | None:
        """Returns the time of the catalog's newest event; None if it has none or cannot be read."""

    def bad_blobs(self) -> tuple[int, int]:
        """Returns the numbers of quarantined and of lost blobs; 0 if unknown."""

    def names(self) -> frozenset[str] | None:
        """Returns the names of Airside's images; None if unknown."""

    def holds(self, reference: str) -> bool | None:
        """Returns True if Airside has this image; None if unknown."""


def gather(settings: Settings, source: AgentOrCatalog, *, chosen: bool = False) -> Facts:
    """Runs all checks. `chosen`: only the containerd of these settings, not the agent's."""
    agent = Look("the agent", lambda: _agent(source))
    store = Look("the data directory", lambda: _store(settings, source))
    names = Look("the names of images", source.names)
    kubelet = Look("kubelet's configuration", lambda: look_at_kubelet(host_root(), settings.data))
    runtimes: list[Look[Runtime]] = []
    try:
        known = agent.wait()
        published = () if chosen or known is None else known.published
        runtimes += _runtimes(settings, [each.socket for each in published], source)
        watched = _watched(settings, known)
        directories = Look("the watched directories", lambda: look_at_directories(watched))
        host = Look("the host", lambda: look_at_host(known))
        answered = tuple(found for look in runtimes if (found := look.wait()) is not None)
        url = _url(settings, known)
        held = names.wait()
        mirrors = Look(
            "mirror settings", lambda: look_at_mirrors(answered, url, held or ()) if url else ()
        )
        asked = mirrors.wait() or ()
        looks: tuple[Look[Any], ...] = (agent, store, kubelet, directories, host, names, mirrors)
        return Facts(
            settings=settings,
            agent=known,
            store=store.wait(),
            host=host.wait(),
            kubelet=kubelet.wait(),
            directories=directories.wait() or (),
            runtimes=answered,
            mirrors=asked,
            reached=reach_all(_next(asked)),
            names=held,
            unseen=_unseen((*looks, *runtimes)),
        )
    except BaseException:  # interrupted: the trial's file in containerd's directory must be deleted
        for look in runtimes:
            look.settle()
        raise


def _next(mirrors: Iterable[Mirror]) -> list[str]:
    """Returns what is asked after us by settings that containerd reads."""
    read = [each for each in mirrors if not each.warning]
    return [address for each in read for then in each.then.values() for address in then]


def _unseen(looks: Iterable[Look[Any]]) -> tuple[Unseen, ...]:
    return tuple(unseen for look in looks for unseen in look.unseen)


def _watched(settings: Settings, agent: Agent | None) -> tuple[Path, ...]:
    """The directories of the running agent, whose settings may differ, else of the settings."""
    if agent is not None and agent.modes:
        return tuple(map(Path, agent.modes))
    return tuple(directory.path for directory in settings.images)


def _url(settings: Settings, agent: Agent | None) -> str:
    if agent is not None and agent.state == "running":
        listen, has_tls = agent.listen, agent.has_tls
    else:
        listen, has_tls = settings.listen, bool(settings.tls_cert)
    return registry_url(listen, has_tls=has_tls, public_url=settings.public_url)


def _runtimes(settings: Settings, agents: list[str], source: AgentOrCatalog) -> list[Look[Runtime]]:
    return [
        Look(
            f"containerd at {path}",
            partial(
                look_at_runtime, path, name, named=named, settings=settings, holds=source.holds
            ),
            seconds=RUNTIME_SECONDS,
        )
        for path, name, named in sockets_of(settings, agents)
    ]


def _agent(source: AgentOrCatalog) -> Agent:
    found = source.agent()
    if found.state != "running" or not found.listen:
        return found
    answer, reason = ask_registry(found.listen, has_tls=found.has_tls)
    seconds = time_a_miss(found.listen, has_tls=found.has_tls) if answer else None
    return replace(found, answer=answer, answer_reason=reason, miss_seconds=seconds)


def _store(settings: Settings, source: AgentOrCatalog) -> Store:
    found = look_at_store(settings.data)
    times = [t for t in (found.newest_at, source.newest_at()) if t is not None]
    quarantined, lost = source.bad_blobs()
    return replace(found, newest_at=max(times, default=None), quarantined=quarantined, lost=lost)
