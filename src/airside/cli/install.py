"""`airside install`: the systemd unit, the directories and the mirror settings of this host."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import click

from airside.cli.failure import EXIT_DONE, EXIT_FAILED
from airside.cli.install_report import show_steps, step_item
from airside.cli.mirror import access_notes, live_status, registry_url
from airside.cli.mirror_report import change_item, change_notes, show_changes
from airside.cli.options import ANY_PATH, effective_settings, example, json_option
from airside.cli.output import clean, write, write_json
from airside.containerd.mirror.apply import Change, apply, plan_write
from airside.containerd.mirror.locations import Node, find_nodes, nodes_of
from airside.containerd.mirror.readers import with_readers
from airside.containerd.sockets import find_sockets
from airside.core.errors import UnavailableError
from airside.core.host_root import HOST_ROOT, below, host_root, on_host
from airside.core.settings import Settings, WatchedDirectory
from airside.install.host import config_path, is_running_systemd, place_of
from airside.install.installation import plan_install
from airside.install.steps import make
from airside.install.targets import TARGETS, Target
from airside.install.unit import STATE, Place

_Command = Callable[..., int]


def root_option(command: _Command) -> _Command:
    """Adds --root: the command then takes that directory for the host's `/`."""

    @wraps(command)
    def below_root(*, root: Path | None, **others: Any) -> int:
        with _host_at(root):
            return command(**others)

    return click.option(
        "--root",
        type=ANY_PATH,
        metavar="DIR",
        help="Change the host whose / is DIR, such as a chroot; nothing is started.",
    )(below_root)


@contextmanager
def _host_at(root: Path | None) -> Iterator[None]:
    before = os.environ.get(HOST_ROOT)
    if root is not None:
        os.environ[HOST_ROOT] = str(root.absolute())
    try:
        yield
    finally:
        if root is not None:
            os.environ.pop(HOST_ROOT)
            if before is not None:
                os.environ[HOST_ROOT] = before


def host_settings() -> Settings:
    """Loads the settings of the host's agent, whoever asks. Raises ConfigError.

    Their paths are those of the host, as it sees them itself.
    """
    path = config_path()
    found = effective_settings(path if path.is_file() else None)
    settings = found.settings
    if found.origins["data"] == "default":
        settings = replace(settings, data=on_host(STATE) / "data")
    if found.origins["images"] == "default":
        settings = replace(settings, images=(WatchedDirectory(on_host(STATE) / "images"),))
    images = tuple(replace(each, path=_reached(each.path)) for each in settings.images)
    runtime = tuple(map(_reached_socket, settings.runtime))
    return replace(settings, data=_reached(settings.data), images=images, runtime=runtime)


def _reached(path: Path) -> Path:
    return below(host_root(), path.absolute())


def _reached_socket(text: str) -> str:
    if text in {"auto", "none"}:
        return text
    return str(below(host_root(), text.removeprefix("unix://")))


def require_root(*, dry_run: bool) -> None:
    """Raises UnavailableError if the host may not be changed."""
    if os.geteuid() != 0 and not dry_run:
        raise UnavailableError(
            "only root may change the host", hint="run the command with sudo, or with --dry-run"
        )


def _target_options(command: _Command) -> _Command:
    @wraps(command)
    def with_target(**others: Any) -> int:
        chosen = [name for name in TARGETS if others.pop(name)]
        if len(chosen) != 1:
            raise click.UsageError(f"give one of --{', --'.join(TARGETS)}")
        return command(target=TARGETS[chosen[0]], **others)

    decorated: _Command = with_target
    for target in reversed(list(TARGETS.values())):
        decorated = click.option(
            f"--{target.name}", target.name, is_flag=True, help=f"A host of {target.title}."
        )(decorated)
    return decorated


@click.command(
    epilog=example("airside install --k3s --dry-run", "sudo airside install --k3s"),
)
@_target_options
@click.option("--only", is_flag=True, help="As of `mirror write`: ask no other registry.")
@click.option("--no-mirror", is_flag=True, help="Write no mirror settings.")
@click.option("--dry-run", "-n", is_flag=True, help="Show the changes; change nothing.")
@root_option
@json_option
def install(target: Target, *, only: bool, no_mirror: bool, dry_run: bool, as_json: bool) -> int:
    """Install the agent as a systemd service, and mirror settings for its containerd.

    Makes the directories, a configuration whose lines are all comments, and the unit that fits this
    host; starts it; then configures containerd as `mirror write --all` does. May be repeated. Files
    that were changed by hand are kept.
    """
    require_root(dry_run=dry_run)
    settings = host_settings()
    place = place_of(target, settings)
    steps = plan_install(place, settings)
    if not dry_run:
        steps = make(steps)
    changes: list[Change] = []
    notes = _notes(place)
    url = None
    if not no_mirror and settings.listen:
        url, changes, more = _mirror(target, settings, only=only, dry_run=dry_run)
        notes += more
    failed = any(step.error for step in steps) or any(change.error for change in changes)
    if as_json:
        items = [step_item(step, dry_run=dry_run) for step in steps]
        items += [{"action": "mirror", **change_item(c, dry_run=dry_run)} for c in changes]
        head = {"schema": 1, "dry_run": dry_run, "target": target.name, "address": url}
        write_json({**head, "notes": notes, "items": items})
    else:
        show_steps(steps, dry_run=dry_run)
        if changes:
            show_changes(changes, [], dry_run=dry_run)
        for note in notes:
            write(f"note: {clean(note)}")
    return EXIT_FAILED if failed else EXIT_DONE


def _mirror(
    target: Target, settings: Settings, *, only: bool, dry_run: bool
) -> tuple[str, list[Change], list[str]]:
    """Writes the mirror settings. Returns the registry's URL, the changes and further steps."""
    live = live_status(settings)
    url = registry_url(settings, live, None)
    nodes = with_readers(_nodes(target), find_sockets(settings.runtime), every=False)
    if not nodes:
        return url, [], [f"{target.title} is not installed here: repeat this command when it is"]
    changes = plan_write(nodes, url, None, only=only)
    changes = changes if dry_run else apply(changes)
    notes = change_notes(nodes, changes, writing=True)
    return url, changes, [*notes, *access_notes(live.get("access"), url)]


def _nodes(target: Target) -> list[Node]:
    if target.name == "systemd":
        return find_nodes(host_root())
    return nodes_of(host_root(), target.name)


def _notes(place: Place) -> list[str]:
    found = []
    if not place.has_links:
        found.append(
            f"blobs are copied, not linked: {place.data} and {place.containerd_root} are on "
            f"different mounts; set data in {config_path()} to a directory beside containerd's"
        )
    if not is_running_systemd():
        found.append("systemd does not run this host now: the agent starts at its next boot")
    return found
