"""`airside mirror write` and `airside mirror remove`: containerd's mirror settings."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from airside.cli.client import ControlClient, NoAgentError
from airside.cli.failure import EXIT_DONE, EXIT_FAILED
from airside.cli.mirror_report import change_item, change_notes, show_changes, unread_notes
from airside.cli.options import (
    ANY_PATH,
    config_option,
    data_option,
    effective_settings,
    example,
    json_option,
)
from airside.cli.output import clean, write_json
from airside.cli.waiting import shown_waiting
from airside.containerd.mirror.apply import Change, apply, plan_remove, plan_write
from airside.containerd.mirror.cri_config import Version
from airside.containerd.mirror.locations import HostsNode, Node, RegistriesNode, find_nodes
from airside.containerd.mirror.readers import with_readers
from airside.containerd.sockets import find_sockets
from airside.core.errors import ConfigError, StoreError
from airside.core.host_root import host_root
from airside.core.settings import Settings
from airside.diagnostics.pull_commands import reachable
from airside.oci.reference import DEFAULT_HOST, is_host

_Command = Callable[..., int]


@dataclass(frozen=True, slots=True)
class MirrorTarget:
    """The settings files to change: those given, else those found on this host."""

    certs_dir: Path | None
    registries_file: Path | None
    dry_run: bool
    notes_file: Path | None

    def nodes(self) -> list[Node]:
        given: list[Node] = []
        if self.certs_dir is not None:
            given.append(HostsNode("containerd", (self.certs_dir.absolute(),)))
        if self.registries_file is not None:
            given.append(RegistriesNode("k3s", self.registries_file.absolute()))
        return given or find_nodes(host_root())

    @property
    def is_given(self) -> bool:
        return self.certs_dir is not None or self.registries_file is not None


def _target_options(command: _Command) -> Callable[..., int]:
    """Adds the options of a MirrorTarget to a command, and passes it as `target`."""

    @wraps(command)
    def with_target(
        *,
        certs_dir: Path | None,
        registries_file: Path | None,
        dry_run: bool,
        notes_file: Path | None,
        **others: Any,
    ) -> int:
        target = MirrorTarget(certs_dir, registries_file, dry_run, notes_file)
        return command(target=target, **others)

    decorated: Callable[..., int] = with_target
    for option in (
        click.option(
            "--registries-file",
            type=ANY_PATH,
            metavar="FILE",
            help="The registries.yaml of K3s or RKE2 [default: those found on this host].",
        ),
        click.option(
            "--certs-dir",
            type=ANY_PATH,
            metavar="DIR",
            help="containerd's directory of hosts.toml files [default: those found on this host].",
        ),
        click.option("--dry-run", "-n", is_flag=True, help="Show the changes; change nothing."),
        click.option(
            "--notes-file",
            type=ANY_PATH,
            metavar="FILE",
            help="Write problems and further steps to this file too (a pod's message).",
        ),
    ):
        decorated = option(decorated)
    return decorated


def _registry_names(
    _ctx: click.Context, _parameter: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    for name in names:
        if not is_host(name):
            raise click.BadParameter(
                f"{name!r} is not a registry such as quay.io or registry.example:5000"
            )
    return tuple(DEFAULT_HOST if name == "index.docker.io" else name for name in names)


def _version(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> Version | None:
    if text is None:
        return None
    parts = text.removeprefix("v").split(".")
    if not 2 <= len(parts) <= 3 or not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r} is not a version such as 1.7 or 2.0.4")
    return tuple(map(int, parts))


@click.group()
def mirror() -> None:
    """Configure containerd to pull through Airside's registry, or remove that configuration.

    containerd then asks Airside first, and pulls images that Airside lacks as before.
    """


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to write. `registries`: None means all; `version`: of the containerd that reads it."""

    registries: tuple[str, ...] | None
    address: str | None
    version: Version | None
    only: bool
    strict: bool


def _wanted_options(command: _Command) -> Callable[..., int]:
    """Adds the options of a Wanted to a command, and passes it as `wanted`."""

    @wraps(command)
    def with_wanted(
        *,
        registries: tuple[str, ...],
        every: bool,
        address: str | None,
        version: Version | None,
        only: bool,
        strict: bool,
        **others: Any,
    ) -> int:
        if every is bool(registries):
            raise click.UsageError("give --registry (once or several times) or --all, not both")
        wanted = Wanted(None if every else registries, address, version, only, strict)
        return command(wanted=wanted, **others)

    decorated: Callable[..., int] = with_wanted
    for option in (
        click.option(
            "--containerd",
            "version",
            callback=_version,
            metavar="VERSION",
            help="The oldest containerd that reads the files [default: of those that answer here].",
        ),
        click.option(
            "--address",
            metavar="HOST:PORT",
            help="Airside's registry [default: of the running agent, else the setting listen].",
        ),
        click.option(
            "--strict",
            is_flag=True,
            help="Fail if a containerd does not read the files, as without config_path.",
        ),
        click.option(
            "--only",
            is_flag=True,
            help="End the search with Airside: ask no registry that cannot answer here.",
        ),
        click.option(
            "--all", "every", is_flag=True, help="Pull images of every registry through Airside."
        ),
        click.option(
            "--registry",
            "registries",
            multiple=True,
            callback=_registry_names,
            metavar="HOST[:PORT]",
            help="A registry to pull through Airside; may be given several times.",
        ),
    ):
        decorated = option(decorated)
    return decorated


@mirror.command(
    "write",
    epilog=example(
        "airside mirror write --all",
        "airside mirror write --all --only",
        "airside mirror write -n --registry docker.io",
    ),
)
@_wanted_options
@_target_options
@data_option
@config_option
@json_option
def write_settings(
    wanted: Wanted,
    target: MirrorTarget,
    data: Path | None,
    config: Path | None,
    *,
    as_json: bool,
) -> int:
    """Configure containerd to ask Airside first.

    Writes hosts.toml files where containerd reads them, or mirrors in the registries.yaml of K3s
    and RKE2. Preserves lines of other tools; `mirror remove` restores the files byte for byte.
    """
    settings = effective_settings(config, data=data).settings
    with shown_waiting("asking the agent and containerd", quiet=as_json):
        live = live_status(settings)
        url = registry_url(settings, live, wanted.address)
        nodes = _read_by(target, wanted.version, settings, live)
    changes = plan_write(nodes, url, wanted.registries, only=wanted.only)
    notes = access_notes(live.get("access"), url)
    status = _finish(nodes, changes, url, target, as_json=as_json, more=notes)
    unread = unread_notes(nodes, changes)
    return EXIT_FAILED if wanted.strict and unread else status


@mirror.command(
    "remove", epilog=example("airside mirror remove --dry-run", "airside mirror remove")
)
@_target_options
@json_option
def remove_settings(target: MirrorTarget, *, as_json: bool) -> int:
    """Remove the lines that `mirror write` added, and restore the files.

    Removes only lines between Airside's marks. A file whose marked lines were changed by others is
    reported and not changed.
    """
    nodes = target.nodes()
    return _finish(nodes, plan_remove(nodes), None, target, as_json=as_json)


def _read_by(
    target: MirrorTarget, version: Version | None, settings: Settings, live: Mapping[str, Any]
) -> list[Node]:
    """Returns the settings to write, with the containerd that reads them: as given, or as found."""
    nodes = target.nodes()
    if version is not None:
        return [replace(node, reader=version) for node in nodes]
    sockets = [each["socket"] for each in live.get("runtimes") or ()]
    return with_readers(nodes, [*sockets, *find_sockets(settings.runtime)], every=target.is_given)


def registry_url(settings: Settings, live: Mapping[str, Any], given: str | None) -> str:
    """The registry's URL for containerd of this node; over TLS with the certificate's name."""
    access = live.get("access")
    has_tls = bool(access["tls"]) if access else bool(settings.tls_cert)
    if given is None and has_tls and settings.public_url:
        return settings.public_url.rstrip("/")
    address = given if given is not None else str(live.get("listen", settings.listen) or "")
    return f"{'https' if has_tls else 'http'}://{_address(address)}"


def access_notes(access: Mapping[str, Any] | None, url: str) -> list[str]:
    """Further steps that containerd needs to use a secured registry."""
    notes = []
    if url.startswith("https://"):
        notes.append(
            f"containerd must trust the certificate of {url}, and the certificate must have that "
            "name: see docs/access.md"
        )
    if access and "pull" not in access["anonymous"]:
        notes.append(
            "the registry requires a login, and containerd sends none to a mirror by default: set "
            'anonymous = "pull", or give containerd a token (see docs/access.md)'
        )
    return notes


def _address(address: str) -> str:
    """Returns the address as clients on this node reach it. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    is_number = port.isdecimal() and 0 < int(port) < 65536
    if not is_host(address) or not _is_address(host) or not is_number:
        raise ConfigError(
            f"{address!r} is not HOST:PORT of a registry"
            if address
            else "Airside serves no registry",
            hint="start the agent with --listen, or pass the registry with --address HOST:PORT",
        )
    number = f":{int(port)}"  # without leading zeros
    return f"{host}{number}" if host == "localhost" else reachable(f"{host}{number}")


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        return not host.startswith("[") or bool(ip_address(host.strip("[]")))
    return False


def live_status(settings: Settings) -> Mapping[str, Any]:
    """Returns the status of the running agent; empty if none runs."""
    try:
        return ControlClient(settings.data).get("/v1/status")
    except NoAgentError:
        return {}


def _finish(
    nodes: list[Node],
    changes: list[Change],
    url: str | None,
    target: MirrorTarget,
    *,
    as_json: bool,
    more: Sequence[str] = (),
) -> int:
    dry_run = target.dry_run
    if not dry_run:
        changes = apply(changes)
    notes = [*change_notes(nodes, changes, writing=url is not None), *more]
    if target.notes_file is not None:
        _write_notes(target.notes_file, changes, notes)
    if as_json:
        items = [change_item(change, dry_run=dry_run) for change in changes]
        head = {"schema": 1, "dry_run": dry_run, "address": url, "notes": notes}
        write_json({**head, "items": items})
    else:
        show_changes(changes, notes, dry_run=dry_run)
    return EXIT_FAILED if any(change.error for change in changes) else EXIT_DONE


def _write_notes(file: Path, changes: Sequence[Change], notes: Sequence[str]) -> None:
    """Writes errors and notes, a line each. Raises StoreError."""
    errors = [change.error.message for change in changes if change.error is not None]
    try:
        file.write_text("".join(f"{clean(line)}\n" for line in [*errors, *notes]), "utf-8")
    except OSError as exc:
        raise StoreError(f"cannot write {file}: {exc.strerror}", path=file) from exc
