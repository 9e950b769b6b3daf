r"""Why a version of containerd ignores a whole `hosts.toml`. Pure.

containerd logs "failed to decode hosts.toml" and goes on as if the file were absent: no host in it
is asked, and an address of others in it is lost with ours. Tried on 1.6.20, 1.7.24 and 2.1.9:

- 1.6 and 1.7 read no table name with `[` or `]` in it, whatever the quotes, and `\u005b` stays as
  it is written; 2.0 and later do. As the value of `server` all read it.
- 1.6 and 1.7 read no file without a `host` table, be it empty.
- All refuse an unknown capability (`referrers` is new in 2.2; in letters of any case), an address
  that Go does not parse, and a value of another type, in lists and headers too; 2.0 and later
  refuse a `dial_timeout` that is no duration.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from airside.containerd.mirror.cri_config import Version
from airside.containerd.mirror.endpoint import has_brackets, is_parsed

BRACKETS_SINCE = (2, 0)
"""The first containerd that reads an IPv6 literal as the name of a table."""
_REFERRERS_SINCE = (2, 2)
_CAPABILITIES = ("pull", "resolve", "push")


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return _is_name(value) or (isinstance(value, list) and all(map(_is_name, value)))


def _is_pairs(value: Any) -> bool:
    """Follows `client`: files with a certificate and its key, or pairs of files."""
    if not isinstance(value, list):
        return _is_name(value)
    return all(_is_name(each) or (_is_names(each) and len(each) == 2) for each in value)


def _is_header(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_names, value.values()))


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "ca": _is_names,
    "client": _is_pairs,
    "skip_verify": _is_switch,
    "override_path": _is_switch,
    "header": _is_header,
    "server": _is_name,
}
_DURATION = re.compile(r"[-+]?(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+\Z|0\Z")


def fault(parsed: Mapping[str, Any], reader: Version | None) -> str:
    """Returns why this version ignores the file; "" if it reads it.

    `parsed`: the TOML file. Of an unknown version (None) only what no version reads is a fault.
    """
    tables = parsed.get("host")
    if not isinstance(tables, dict):
        if tables is not None or (reader is not None and reader < BRACKETS_SINCE):
            return "it has no [host] table, so this containerd ignores it"
        tables = {}
    unread = next(filter(has_brackets, tables), None)
    if unread is not None and reader is not None and reader < BRACKETS_SINCE:
        return f'containerd {_text(reader)} cannot read [host."{unread}"], and ignores the file'
    server = parsed.get("server", "")
    addresses = [*tables, server] if isinstance(server, str) else [*tables]
    broken = next((each for each in addresses if not is_parsed(each)), None)
    if broken is not None:
        return f"its address {broken!r} is no URL, so containerd ignores the file"
    named = [("", parsed), *((f'[host."{name}"]: ', table) for name, table in tables.items())]
    found = (f"{where}{what}" for where, table in named for what in _faults(table, reader))
    return next((f"{each}, so containerd ignores the file" for each in found), "")


def _faults(table: Any, reader: Version | None) -> Iterator[str]:
    if not isinstance(table, dict):
        yield "it is not a table"
        return
    capabilities = table.get("capabilities", [])
    known = list(_CAPABILITIES)
    if reader is None or reader >= _REFERRERS_SINCE:
        known.append("referrers")
    if not isinstance(capabilities, list):
        yield "its capabilities are not a list"
    else:
        yield from (
            f"it has an unknown capability {c!r}"
            for c in capabilities
            if str(c).lower() not in known
        )
    for key, fits in _FITS.items():
        if key in table and not fits(table[key]):
            yield f"the value of {key} is of another type"
    timeout = table.get("dial_timeout", "")
    is_read = timeout != "" and reader is not None and reader >= BRACKETS_SINCE
    if is_read and not (isinstance(timeout, str) and _DURATION.match(timeout)):
        yield f"its dial_timeout {timeout!r} is no duration"


def _text(version: Version) -> str:
    return ".".join(map(str, version))
