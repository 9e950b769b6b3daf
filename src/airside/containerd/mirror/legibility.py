r"""Why a version of containerd ignores a whole `hosts.toml`. Pure.

containerd logs "failed to decode hosts.toml" and goes on as if the file were absent: no host in it
is asked, and an address of others in it is lost with ours. Tried on 1.6.20, 1.7.24 and 2.1.9:

- 1.6 and 1.7 read no table name with `[` or `]` in it, whatever the quotes, and `\u005b` stays as
  it is written; 2.0 and later do. As the value of `server` all read it.
- 1.6 and 1.7 read no file without a `host` table, be it empty.
- All refuse an unknown capability (`referrers` is new in 2.2) and a value of another type; 2.0 and
  later refuse a `dial_timeout` that is no duration.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from airside.containerd.mirror.cri_config import Version
from airside.containerd.mirror.endpoint import has_brackets

BRACKETS_SINCE = (2, 0)
"""The first containerd that reads an IPv6 literal as the name of a table."""
_REFERRERS_SINCE = (2, 2)
_CAPABILITIES = ("pull", "resolve", "push")
_KINDS: Mapping[str, tuple[type, ...]] = {
    "ca": (str, list),
    "client": (str, list),
    "skip_verify": (bool,),
    "override_path": (bool,),
    "header": (dict,),
    "server": (str,),
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
        yield from (f"it has an unknown capability {c!r}" for c in capabilities if c not in known)
    for key, kinds in _KINDS.items():
        if key in table and not isinstance(table[key], kinds):
            yield f"the value of {key} is of another type"
    timeout = table.get("dial_timeout")
    is_read = timeout is not None and reader is not None and reader >= BRACKETS_SINCE
    if is_read and not _DURATION.match(str(timeout)):
        yield f"its dial_timeout {timeout!r} is no duration"


def _text(version: Version) -> str:
    return ".".join(map(str, version))
