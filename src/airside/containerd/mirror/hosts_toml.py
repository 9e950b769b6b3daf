"""Puts our host first into the text of a `hosts.toml`. Pure.

containerd tries the `[host."URL"]` tables in the order of the file and then the `server` or, if
that is not set, the registry's own address. So our table is put before the others, and nothing else
is changed. The new text is parsed again: it must say what the old one said, with our table first;
else the change is refused.

containerd reads a directory with certificates (`*.crt`, `*.cert`, `*.key`) and no `hosts.toml` in
Docker's way, and no longer does so beside a `hosts.toml`: then our file names the certificates.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from airside.containerd.mirror.cri_config import Version
from airside.containerd.mirror.endpoint import has_brackets, of_containerd
from airside.containerd.mirror.legibility import BRACKETS_SINCE, fault
from airside.containerd.mirror.managed_block import Foreign, split_lines, with_lines
from airside.core.errors import ConflictError

DEFAULT = "_default"
"""containerd's directory for registries without one of their own."""
FILE = "hosts.toml"
DIAL_TIMEOUT = "1s"
"""containerd 2.0.7 and 2.1 know this key; earlier versions ignore it. Their own default is 30 s."""
_OURS = {"capabilities": ["pull", "resolve"], "dial_timeout": DIAL_TIMEOUT}
_SERVER = re.compile(r"""\s*(?:server|"server"|'server')\s*=""")
_HOST_TABLE = re.compile(r"""\s*\[\s*(?:host|"host"|'host')\s*[.\]]""")


def directory_names(registry: str) -> tuple[str, ...]:
    """Returns a registry's directory names in containerd's order; we make the last."""
    host, colon, port = registry.rpartition(":")
    return (f"{host}_{port}_", registry) if colon and host else (registry,)


def registry_of(directory: str) -> str:
    """Returns the registry of a directory name."""
    match = re.fullmatch(r"(.+)_(\d+)_", directory)
    return f"{match[1]}:{match[2]}" if match else directory


def with_mirror(
    foreign: Foreign,
    url: str,
    *,
    only: bool = False,
    reader: Version | None = None,
    made: int | None = None,
    files: Iterable[str] = (),
) -> str | None:
    """Returns the text with our host first; None if somebody else wrote that already.

    `only`: as `server` too, so that nothing is asked after the hosts of the file; without such
    hosts as `server` alone, or it would be asked twice. `reader`: the oldest containerd that reads
    the file, None if unknown; `made` as in `managed_block`; `files` are the names beside the file.
    Raises ConflictError.
    """
    text = foreign.text
    before = _parsed(text)
    wanted = _wanted(before, url, only=only)
    if not wanted:
        _refuse_unread(before, reader)
        return None
    if Part.HOST in wanted:
        refuse_brackets(url, reader)
    certificates = () if text or only else tuple(_certificate_lines(sorted(files)))
    after = _added(text, url, wanted, certificates, made)
    expected = _expected(before, url, wanted) | _certificates(certificates)
    if not _says(after, expected) or (Part.HOST in wanted and _first_host(after) != url):
        raise ConflictError(
            "nothing can be added to its tables and settings, the way they are written",
            hint=f'put [host."{url}"] with capabilities = ["pull", "resolve"] first by hand'
            + f', and server = "{url}" above all tables' * only,
        )
    _refuse_unread(expected, reader)
    return after


def _says(text: str, expected: Mapping[str, Any]) -> bool:
    try:
        return _parsed(text) == expected
    except ConflictError:
        return False


def _first_host(text: str) -> str:
    return str(next(iter(_parsed(text)["host"])))


class Part(Enum):
    """What is added to a file."""

    SERVER = auto()
    """Our address as `server`, in place of that of others."""
    HOST = auto()
    """Our table before the tables of others."""
    NO_HOST = auto()
    """An empty `[host]`, without which containerd 1.x ignores the file."""


def _wanted(before: Mapping[str, Any], url: str, *, only: bool) -> set[Part]:
    """Returns what the file lacks. Raises ConflictError if it has our host in another place."""
    hosts, first, last = before.get("host"), _is_there(before, url), _is_server(before, url)
    if not only:
        return set() if first or (last and hosts == {}) else {Part.HOST}
    found = set() if last else {Part.SERVER}
    if hosts is None:
        found.add(Part.NO_HOST)
    if hosts and not first:
        found.add(Part.HOST)
    return found


def _is_server(parsed: Mapping[str, Any], url: str) -> bool:
    """Returns True if our host is the `server`, which is asked last."""
    server, wanted = parsed.get("server"), of_containerd(url)
    changed_path = parsed.get("override_path") is True
    return (
        isinstance(server, str)
        and wanted is not None
        and wanted.means(of_containerd(server, override_path=changed_path))
        and _can_pull(parsed)
    )


def _can_pull(table: Mapping[str, Any]) -> bool:
    given = table.get("capabilities") or _OURS["capabilities"]
    return isinstance(given, list) and {"pull", "resolve"} <= {str(each).lower() for each in given}


def _added(
    text: str, url: str, wanted: set[Part], certificates: Sequence[str], made: int | None
) -> str:
    """Inserts the lines of these parts, in an empty file as one block."""
    table = []
    if Part.HOST in wanted:
        table = [f'[host."{url}"]', *_setting_lines("  ", _OURS)]
    elif Part.NO_HOST in wanted:
        table = ["[host]"]
    root = list(certificates)
    if Part.SERVER in wanted:
        root += _setting_lines("", _as_server(_parsed(text), url))
    apart = [""] if root and table else []
    if not text or not root:
        return with_lines(text, [*root, *apart, *table], first=_place(split_lines(text)), made=made)
    lines, after = split_lines(text), text
    if table:
        after = with_lines(text, table, first=_place(lines))
    old = None
    if "server" in _parsed(text):
        old = next((n for n, line in enumerate(lines) if _SERVER.match(line)), None)
    return with_lines(after, root, first=old or 0, last=old, made=made)


def _as_server(before: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Returns the settings that make it the `server`. Raises ConflictError if others would apply.

    What others set outside of tables is for their `server`: a header, a path, certificates.
    """
    foreign = {"header", "override_path"} | ({"ca", "client"} if url.startswith("https") else set())
    unfit = sorted(foreign & before.keys()) + ["capabilities"] * (not _can_pull(before))
    if unfit:
        raise ConflictError(
            f"its {unfit[0]} is for another server, and would apply to {url}",
            hint=f"remove {unfit[0]}, and run the command again, or run it without --only",
        )
    given = {key: value for key, value in _OURS.items() if key not in before}
    return {"server": url, **given}


def _expected(before: Mapping[str, Any], url: str, wanted: set[Part]) -> dict[str, Any]:
    expected = dict(before)
    if Part.SERVER in wanted:
        expected |= _as_server(before, url)
    if Part.HOST in wanted:
        expected["host"] = {url: _OURS, **before.get("host", {})}
    elif Part.NO_HOST in wanted:
        expected["host"] = {}
    return expected


def _setting_lines(pad: str, settings: Mapping[str, Any]) -> list[str]:
    return [f"{pad}{key} = {json.dumps(value)}" for key, value in settings.items()]


def asked(text: str, reader: Version | None) -> list[tuple[str, bool]]:
    """Returns what containerd asks by this file: (address, True if its path is as given), in order.

    The last one is "" if that is the registry itself. Raises ConflictError if the file is ignored.
    """
    parsed = _parsed(text)
    _refuse_unread(parsed, reader)
    found = [(name, table.get("override_path") is True) for name, table in _hosts_of(parsed)]
    return [*found, (parsed.get("server") or "", parsed.get("override_path") is True)]


def unread_by_1(text: str) -> str:
    """Returns why containerd 1.6 and 1.7 would ignore the file; "" if they read it."""
    return fault(_parsed(text), (1, 6))


def others(text: str, url: str) -> list[str]:
    """Returns the hosts of the file that are asked and are not ours."""
    wanted = of_containerd(url)
    names = [name for name, _ in _hosts_of(_parsed(text))]
    return [name for name in names if wanted is None or not wanted.means(of_containerd(name))]


def _hosts_of(parsed: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the tables that pulls go to."""
    return [(n, t) for n, t in parsed.get("host", {}).items() if _can_pull(t)]


def _refuse_unread(parsed: Mapping[str, Any], reader: Version | None) -> None:
    """Raises ConflictError if containerd would ignore the file, what others wrote included."""
    what = fault(parsed, reader)
    if what:
        raise ConflictError(what, hint="correct it, and run the command again")


def refuse_brackets(url: str, reader: Version | None) -> None:
    """Raises ConflictError for an IPv6 literal that this containerd, or any, might not read."""
    if not has_brackets(url) or (reader is not None and reader >= BRACKETS_SINCE):
        return
    whose = "an unknown version" if reader is None else ".".join(map(str, reader))
    raise ConflictError(
        f"containerd before 2.0 cannot read the IPv6 address {url}, and would ignore the whole "
        f"file; this is {whose}",
        hint="listen on an IPv4 address, or name the address: --address NAME:PORT (localhost, if "
        "/etc/hosts has it for ::1); if only containerd 2.0 or later reads the file, say so: "
        "--containerd 2.0",
    )


def _place(lines: Sequence[str]) -> int:
    """Returns the line before the first host table and its comment, else the end of the file."""
    tables = (number for number, line in enumerate(lines) if _HOST_TABLE.match(line))
    place = next(tables, len(lines))
    if place < len(lines):
        while place and lines[place - 1].lstrip().startswith("#"):
            place -= 1
    return place


def _is_there(parsed: Mapping[str, Any], url: str) -> bool:
    """Returns True if others put our host first, as we would. Raises ConflictError if not so."""
    hosts = list(parsed.get("host", {}).items())
    wanted = of_containerd(url)
    mine = [
        number
        for number, (name, table) in enumerate(hosts)
        if wanted is not None
        and wanted.means(of_containerd(name, override_path=table.get("override_path") is True))
    ]
    if not mine:
        return False
    if mine[0] == 0 and _can_pull(hosts[0][1]):
        return True
    raise ConflictError(
        f'[host."{hosts[mine[0]][0]}"] exists already, but not first or not with the '
        'capabilities "pull" and "resolve"',
        hint="remove that table, or make it the first one, and run the command again",
    )


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ConflictError(
            f"it is not valid TOML, so containerd ignores it: {exc}",
            hint="correct or delete it, and run the command again",
        ) from exc
    hosts = found.get("host", {})
    if not isinstance(hosts, dict) or not all(isinstance(v, dict) for v in hosts.values()):
        raise ConflictError(
            "its `host` is not a table, so containerd ignores it",
            hint="correct or delete it, and run the command again",
        )
    return found


def _certificate_lines(files: Sequence[str]) -> Iterable[str]:
    authorities = [name for name in files if name.endswith(".crt")]
    if authorities:
        yield f"ca = {json.dumps(authorities)}"
    pairs = []
    for name in files:
        if name.endswith(".cert"):
            key = name.removesuffix(".cert") + ".key"
            pairs.append([name, key if key in files else name])  # else the key is in it too
    if pairs:
        yield f"client = {json.dumps(pairs)}"


def _certificates(lines: Iterable[str]) -> dict[str, Any]:
    return tomllib.loads("\n".join(lines))
