"""Plans what an installation changes on the host, and what its removal does. Blocking: reads.

Where a package is installed, unit and configuration are the package's: only what this host adds to
them is written, and removed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airside.core.host_root import on_host
from airside.core.settings import Settings
from airside.install import steps
from airside.install.configuration import DEFAULT
from airside.install.host import config_path, is_running_systemd, packaged_unit
from airside.install.layers_unit import service_drop_in_text, service_text, socket_text
from airside.install.steps import Step
from airside.install.targets import LAYERS_SERVICE, LAYERS_SOCKET, UNIT, UNITS
from airside.install.unit import STATE, Place, drop_in_text, unit_text

_WANTS = "multi-user.target.wants"
_DROP_IN = "50-airside-install.conf"
_CONFIG_MODE = 0o640
_DATA_MODE, _IMAGES_MODE, _OPEN_MODE = 0o700, 0o750, 0o755


def plan_install(place: Place, settings: Settings) -> list[Step]:
    """Plans directories, configuration and unit. Raises UnavailableError."""
    found = [
        steps.directory(config_path().parent, _OPEN_MODE),
        steps.file(config_path(), DEFAULT, _CONFIG_MODE),
        steps.directory(on_host(STATE), _OPEN_MODE),
        steps.directory(settings.data, _DATA_MODE),
        *(steps.directory(each.path, _IMAGES_MODE) for each in settings.images),
    ]
    found += _unit(place)
    return [*found, *_start(found)]


def plan_stop() -> list[Step]:
    """Plans the end of the agent, before anything is removed."""
    if is_running_systemd() and _has_unit():
        return [steps.command("systemctl", "disable", "--now", UNIT)]
    return []


def plan_uninstall(settings: Settings, *, purges: bool) -> list[Step]:
    """Plans the removal. `purges`: of data directory and default images directory too."""
    units = on_host(UNITS)
    found: list[Step] = []
    for name in (UNIT, LAYERS_SERVICE):
        drop_ins = units / f"{name}.d"
        drop_in = steps.without_file(drop_ins / _DROP_IN)
        found += [*drop_in, *steps.without_directory(drop_ins, gone=_gone(drop_in))]
    if packaged_unit() is None:
        link = steps.without_link(units / _WANTS / UNIT)
        found += link
        if link:
            found += steps.without_directory(units / _WANTS, gone=_gone(link))
        for name in (UNIT, LAYERS_SOCKET, LAYERS_SERVICE):
            found += steps.without_file(units / name)
        config = steps.without_file(config_path(), DEFAULT, saves=False)
        found += config
        found += steps.without_directory(config_path().parent, gone=_gone(config))
    if found and is_running_systemd():
        found.append(steps.command("systemctl", "daemon-reload"))
    return [*found, *_data(settings, purges=purges)]


@dataclass(frozen=True, slots=True)
class Kept:
    """A directory that a removal without --purge leaves."""

    path: Path
    what: str


def kept(settings: Settings) -> list[Kept]:
    """Returns the directories with something in them that only a purge removes."""
    found = [Kept(settings.data, "store and catalog")]
    found += [Kept(each.path, "archives") for each in settings.images if _is_usual(each.path)]
    return [each for each in found if each.path.is_dir() and any(each.path.iterdir())]


def _unit(place: Place) -> list[Step]:
    units = on_host(UNITS)
    if packaged_unit() is not None:
        found: list[Step] = []
        texts = {UNIT: drop_in_text(place), LAYERS_SERVICE: service_drop_in_text(place)}
        for name, text in texts.items():
            path = units / f"{name}.d" / _DROP_IN
            found += [steps.file(path, text)] if text else steps.without_file(path)
        return found
    return [
        steps.file(units / LAYERS_SOCKET, socket_text()),
        steps.file(units / LAYERS_SERVICE, service_text(place)),
        steps.file(units / UNIT, unit_text(place)),
        steps.link(units / _WANTS / UNIT, f"../{UNIT}"),
    ]


def _start(done: Sequence[Step]) -> list[Step]:
    if not is_running_systemd():
        return []
    is_changed = any(step.state in {"written", "changed", "removed"} for step in done)
    reload = [steps.command("systemctl", "daemon-reload")] if is_changed else []
    verb = "restart" if is_changed else "start"
    return [*reload, steps.command("systemctl", verb, UNIT)]


def _data(settings: Settings, *, purges: bool) -> list[Step]:
    usual = [each.path for each in settings.images if _is_usual(each.path)]
    found: list[Step] = []
    if purges:
        found = _without_data(settings.data)
        for path in usual:
            found += steps.without_tree(path, "archives")
    elif packaged_unit() is None:
        for path in (settings.data, *usual):
            found += steps.without_directory(path)
    if packaged_unit() is not None:
        return found  # the package's directories
    return found + steps.without_directory(on_host(STATE), gone=_gone(found))


def _without_data(path: Path) -> list[Step]:
    """Plans the removal of a data directory; one that no agent has used may be anything."""
    if path == on_host(STATE) / "data" or (path / "format").is_file():
        return steps.without_tree(path, "store and catalog")
    if path.is_dir() and any(path.iterdir()):
        return [steps.kept_tree(path, "no agent has used it as its data directory")]
    return steps.without_directory(path)


def _is_usual(path: Path) -> bool:
    """Returns True for the images directory that an installation makes; others are others'."""
    return path == on_host(STATE) / "images"


def _gone(found: Sequence[Step]) -> list[Path]:
    return [s.path for s in found if s.state == "removed" and not s.path.is_mount()]


def _has_unit() -> bool:
    return packaged_unit() is not None or (on_host(UNITS) / UNIT).exists()
