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
from collections.abc import Iterable, Sequence
from typing import Any

from airside.containerd.mirror.endpoint import has_brackets, of_containerd
from airside.containerd.mirror.legibility import BRACKETS_SINCE, Version, fault
from airside.containerd.mirror.managed_block import Foreign, split_lines, with_lines
from airside.core.errors import ConflictError

DEFAULT = "_default"
"""containerd's directory for registries without one of their own."""
FILE = "hosts.toml"
DIAL_TIMEOUT = "1s"
"""containerd 2.0.7 and 2.1 know this key; earlier versions ignore it. Their own default is 30 s."""
_OURS = {"capabilities": ["pull", "resolve"], "dial_timeout": DIAL_TIMEOUT}
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
    reader: Version | None = None,
    made: int | None = None,
    files: Iterable[str] = (),
) -> str | None:
    """Returns the text with our host first; None if somebody else wrote that already.

    `reader`: the oldest containerd that reads the file, None if unknown; `made` as in
    `managed_block`; `files` are the names beside the file. Raises ConflictError.
    """
    text = foreign.text
    before = _parsed(text)
    if _is_there(before, url):
        _refuse_unread(before, url, reader)
        return None
    certificates = () if text else tuple(_certificate_lines(sorted(files)))
    ours = (*certificates, *_table_lines(url, apart=bool(certificates)))
    after = with_lines(text, ours, first=_place(split_lines(text)), made=made)
    expected = {**before, **_certificates(certificates)}
    expected["host"] = {url: _OURS, **before.get("host", {})}
    found = _parsed(after)
    if found != expected or next(iter(found["host"])) != url:
        raise ConflictError(
            "no table can be put before its [host] tables, the way they are written",
            hint=f'put [host."{url}"] with capabilities = ["pull", "resolve"] first by hand',
        )
    _refuse_unread(found, url, reader)
    return after


def _refuse_unread(parsed: dict[str, Any], url: str, reader: Version | None) -> None:
    """Raises ConflictError if containerd would ignore the file, what others wrote included."""
    refuse_brackets(url, reader)
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


def _table_lines(url: str, *, apart: bool) -> list[str]:
    return [
        *([""] if apart else []),
        f'[host."{url}"]',
        *(f"  {key} = {json.dumps(value)}" for key, value in _OURS.items()),
    ]


def _place(lines: Sequence[str]) -> int:
    """Returns the line before the first host table and its comment, else the end of the file."""
    tables = (number for number, line in enumerate(lines) if _HOST_TABLE.match(line))
    place = next(tables, len(lines))
    if place < len(lines):
        while place and lines[place - 1].lstrip().startswith("#"):
            place -= 1
    return place


def _is_there(parsed: dict[str, Any], url: str) -> bool:
    """Returns True if others wrote our host as we would. Raises ConflictError if it differs."""
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
    given = hosts[mine[0]][1].get("capabilities") or ["pull", "resolve"]
    if mine[0] == 0 and isinstance(given, list) and all(c in given for c in ("pull", "resolve")):
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
