"""Facts about each containerd: its socket, its introspection, its process and directories.

Blocking. A socket that does not respond costs `ANSWER_SECONDS` once: no more is requested.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from airside.containerd.client import Client
from airside.containerd.discovery import (
    LOCAL_SNAPSHOTTERS,
    METADATA,
    SNAPSHOTTER,
    discover,
    parse_version,
)
from airside.containerd.sockets import find_sockets, known_sockets
from airside.core.errors import AirsideError, ContainerdError
from airside.core.settings import Settings
from airside.diagnostics.doctor.facts import Gunzip, Runtime
from airside.diagnostics.doctor.gather.bounded import ANSWER_SECONDS
from airside.diagnostics.doctor.gather.configs import config_paths, read_configs
from airside.diagnostics.doctor.gather.cris import Holds, look_at_cri
from airside.diagnostics.doctor.gather.erofs import look_at_erofs
from airside.diagnostics.doctor.gather.processes import (
    PROC,
    command_line,
    environment,
    shares_mounts,
)
from airside.diagnostics.doctor.gather.sockets import Probe, probe
from airside.diagnostics.doctor.gather.trial import foreign_names, try_adoption
from airside.diagnostics.doctor.gather.volumes import label_of, may, sight_of, volume_of

_INGEST = "ingest"
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_IGZIP_SINCE = (2, 0)
_SWITCHES = {"igzip": "CONTAINERD_DISABLE_IGZIP", "unpigz": "CONTAINERD_DISABLE_PIGZ"}


def sockets_of(settings: Settings, agents: Iterable[str]) -> list[tuple[str, str, bool]]:
    """Returns (socket, name of the runtime, True if set by hand) of each containerd to check.

    `agents`: the sockets of the running agent, whose settings may differ.
    """
    names = {path: name for name, path in known_sockets().items()}
    named = {text.removeprefix("unix://") for text in settings.runtime}
    return [
        (path, names.get(path, "containerd"), path in named)
        for path in dict.fromkeys((*agents, *find_sockets(settings.runtime)))
    ]


def look_at_runtime(
    path: str, name: str, *, named: bool, settings: Settings, holds: Holds
) -> Runtime:
    """Returns the facts of one containerd. `holds`: True if Airside has an image of this name."""
    found = Runtime(path, name, named, "answers")
    probed = probe(path)
    if probed.state != "answers":
        return replace(found, state=probed.state, reason=probed.reason)
    with Client.open(path, settings.namespace, patience_seconds=ANSWER_SECONDS) as client:
        try:
            found = _introspected(client, found, settings)
        except ContainerdError as exc:
            silent = exc.context.get("status") == "DEADLINE_EXCEEDED"
            return replace(
                found, state="silent" if silent else "not-containerd", reason=exc.message
            )
        except AirsideError as exc:
            return replace(found, state="not-containerd", reason=exc.message)
        return _Inspection(client, settings, probed, holds).all_of(found)


def _introspected(client: Client, found: Runtime, settings: Settings) -> Runtime:
    """Adds containerd's own report. Raises ContainerdError."""
    facts = discover(client, snapshotter=settings.snapshotter, seconds=ANSWER_SECONDS)
    plugins = client.introspection.plugins()
    snapshotters = {p.id: p for p in plugins if p.type == SNAPSHOTTER}
    plugin = snapshotters.get(facts.snapshotter)
    error = "containerd has no such plugin" if plugin is None else plugin.error
    return replace(
        found,
        version=facts.version,
        numbers=parse_version(facts.version),
        policy=facts.policy,
        content_root=facts.content_root,
        snapshotter=facts.snapshotter,
        snapshotter_error=error,
        unpacks_here=facts.snapshotter in LOCAL_SNAPSHOTTERS,
        has_cri=facts.has_cri,
        erofs=look_at_erofs(plugins, parse_version(facts.version)),
    )


@dataclass(slots=True)
class _Inspection:
    """Checks one containerd step by step. A step that fails loses only its own facts."""

    client: Client
    settings: Settings
    probed: Probe
    holds: Holds

    def all_of(self, found: Runtime) -> Runtime:
        steps: tuple[Callable[[Runtime], Runtime], ...] = (
            self._process,
            self._cri,
            self._content,
            self._trial,
        )
        reasons = []
        for step in steps:
            try:
                found = step(found)
            except ContainerdError as exc:
                reasons.append(exc.message)
                if exc.is_away:  # each further step would time out too
                    break
            except AirsideError as exc:
                reasons.append(exc.message)
            except OSError as exc:
                reasons.append(f"{exc.filename or ''}: {exc.strerror}".removeprefix(": "))
        return replace(found, reason="; ".join(reasons))

    @property
    def _proc(self) -> Path | None:
        return PROC / str(self.probed.pid) if self.probed.pid else None

    def _process(self, found: Runtime) -> Runtime:
        if self._proc is None:
            return found
        return replace(
            found,
            other_mounts=shares_mounts(self._proc) is False,
            gunzip=_gunzip(self._proc, found.numbers),
            proxies=_proxies(environment(self._proc) or {}),
        )

    def _cri(self, found: Runtime) -> Runtime:
        if not found.has_cri:
            return found
        words = command_line(self._proc) if self._proc is not None else []
        files = read_configs(config_paths(words, found.name))
        cri = look_at_cri(self.client.channel, found.numbers, files, self.holds)
        return replace(found, cri=cri)

    def _content(self, found: Runtime) -> Runtime:
        root = Path(found.content_root)
        sight = sight_of(root) if found.content_root else "absent"
        fresh = sight == "absent" and self._is_fresh()
        found = replace(found, root_sight="visible" if fresh else sight)
        if found.root_sight != "visible":
            return found
        if not may(root.parent if fresh else root, os.R_OK | os.W_OK | os.X_OK):
            return replace(found, root_sight="forbidden", volume=volume_of(root))
        names: tuple[str, ...] = ()
        with suppress(FileNotFoundError):  # no blob was stored yet
            names = foreign_names(root)
        return replace(
            found, foreign_names=names, volume=volume_of(root), label=label_of(root / "blobs")
        )

    def _is_fresh(self) -> bool:
        """True if the content directory is not created yet: 1.7 and later wait for a blob."""
        kind, name = METADATA
        paths = [
            plugin.exports.get("path", "")
            for plugin in self.client.introspection.plugins(f"type=={kind},id=={name}")
        ]
        return any(path and sight_of(Path(path)) == "visible" for path in paths)

    def _trial(self, found: Runtime) -> Runtime:
        origin = self.settings.data / _INGEST
        if found.root_sight != "visible" or sight_of(origin) != "visible":
            return found
        if not may(origin, os.W_OK | os.X_OK):
            return found
        trial = try_adoption(self.client, origin, Path(found.content_root))
        return replace(found, trial=trial)


def _proxies(variables: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in variables.items() if name.lower() in _PROXIES}


def _gunzip(process: Path, numbers: tuple[int, ...]) -> Gunzip | None:
    """The program on its PATH, as at its start; None if the environment is unreadable."""
    variables = environment(process)
    if variables is None:
        return None
    programs = ("igzip", "unpigz") if numbers >= _IGZIP_SINCE else ("unpigz",)
    for name in programs:
        if _is_true(variables.get(_SWITCHES[name], "")):
            continue
        for path in _candidates(process, variables.get("PATH", ""), name):
            return Gunzip(str(path), programs)
    return Gunzip("", programs)


def _candidates(process: Path, path: str, name: str) -> Iterator[Path]:
    """Yields programs of this name, by their paths in the mount namespace of the process."""
    root = process / "root"
    for directory in filter(None, path.split(os.pathsep)):
        place = Path(directory) / name
        if may(root / str(place).lstrip("/"), os.X_OK):
            yield place


def _is_true(text: str) -> bool:
    """Parses a boolean as Go's strconv.ParseBool."""
    return text in {"1", "t", "T", "true", "TRUE", "True"}
