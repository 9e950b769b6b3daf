"""State outside our store, for `explain`: runtimes, lists, mirror settings. Blocking.

Queries the connected runtimes for one name and reads a few settings files; changes nothing. Treats
an unavailable runtime as empty.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from airside.catalog.lookup import ListEntry
from airside.catalog.view import CatalogView
from airside.containerd.mirror import hosts_toml as hosts
from airside.containerd.mirror.apply import Change, plan_write
from airside.containerd.mirror.locations import Node, RegistriesNode, find_nodes
from airside.containerd.mirror.managed_block import without_ours
from airside.containerd.pull_records import PullRecords
from airside.core.errors import AirsideError, UnavailableError
from airside.oci.reference import Reference
from airside.ports.content import Only, RuntimeContent, RuntimeTag

Contents = Callable[[], Sequence[tuple[str, RuntimeContent]]]
"""Returns the socket and the content of each connected runtime."""

_THERE = {"unchanged", "kept"}
_RESTRICTIONS = {
    ("open", True): "not to that containerd itself",
    ("open", False): "not to that containerd itself",
    ("true", True): "by tag not to that containerd itself, so that it sees updates",
    ("digests", True): "by digest only (read_through is digests)",
}
"""By policy and whether the name is a tag."""


def only_in_runtimes(
    view: CatalogView, name: Reference, contents: Contents, policy: str
) -> dict[str, Any] | None:
    """The answer for a name that a runtime has and our catalog lacks; None if no runtime has it.

    If no runtime can be asked, an image that was pulled for a list counts as present.
    """
    exact = name if name.tag or name.digest else Reference(name.repository, "latest")
    sources = contents()
    held = list(_held(view, exact, sources, policy))
    listed = lists_of(view, exact)
    if not held and (sources or not any(each["pulled"] for each in listed)):
        return None
    return {
        "kind": "runtime",
        "reference": str(exact),
        "read_through": policy,
        "runtimes": held,
        "lists": listed,
    }


def _held(
    view: CatalogView, name: Reference, sources: Sequence[tuple[str, RuntimeContent]], policy: str
) -> Iterator[dict[str, Any]]:
    opened = PullRecords().opened(name.repository) if policy == "open" else None
    for socket, content in sources if name.repository.host else ():
        try:
            found = _in(content, name)
        except UnavailableError:
            continue
        if found is not None:
            served, why = _served(view, name, found, policy)
            if served and policy == "open" and not (opened and _in(content, name, opened)):
                served, why = False, "no record of kubelet says that it came without a secret"
            digest = str(found.document.digest)
            yield {"socket": socket, "digest": digest, "served": served, "reason": why}


def _in(content: RuntimeContent, name: Reference, only: Only = None) -> RuntimeTag | None:
    if name.digest is None:
        return content.tag(name.repository, name.tag, only)
    document = content.document(name.repository, name.digest, only)
    return RuntimeTag(document, (name.digest,)) if document is not None else None


def _served(view: CatalogView, name: Reference, found: RuntimeTag, policy: str) -> tuple[bool, str]:
    """Returns (True if our registry serves it, the reason or restriction).

    Follows the rules of `registry.rules.read_through`.
    """
    by_tag = name.digest is None
    if policy == "false":
        return False, "the setting read_through is false"
    if not found.needs:
        lacks = f": blob {found.lacks} is missing" if found.lacks else ""
        return False, f"it has no complete image{lacks}"
    if view.any_quarantined(found.needs):
        return False, "one of its blobs is damaged"
    return True, _RESTRICTIONS.get((policy, by_tag), "")


def lists_of(view: CatalogView, name: Reference) -> list[dict[str, Any]]:
    """Returns the lists that name it, each with the runtime that pulled it or the error."""
    return [_listed(each) for each in view.lookup.listed(str(name))]


def _listed(each: ListEntry) -> dict[str, Any]:
    return {
        "path": each.path,
        "state": each.state,
        "pulled": not each.reason,
        "runtime": each.runtime.partition(" ")[0],
        "reason": each.reason,
    }


def mirrors_of(host: str, address: str, system: Path) -> list[dict[str, Any]]:
    """Returns the mirror setting of each containerd of this machine for the registry `host`.

    `set` is True if it asks `address` first, None if the settings cannot be read.
    """
    try:
        nodes = find_nodes(system)
    except AirsideError as exc:
        return [{"runtime": "", "path": "", "set": None, "reason": exc.message}]
    url = f"http://{address}"
    return [_mirror(_deciding(node, url, host)) for node in nodes]


def _deciding(node: Node, url: str, host: str) -> Change:
    """The settings that apply to a registry: its own, else the default ones."""
    [own], [default] = (plan_write([node], url, [name]) for name in (host, hosts.DEFAULT))
    if own.error is not None or own.state in _THERE or default.state not in _THERE:
        return own
    if isinstance(node, RegistriesNode):
        from airside.containerd.mirror.registries_yaml import all_registries  # noqa: PLC0415 - a YAML parser

        has_own = host in all_registries(without_ours(own.before or "").text)
    else:
        has_own = own.before is not None
    return own if has_own else default


def _mirror(change: Change) -> dict[str, Any]:
    refused = change.error.message if change.error is not None else ""
    return {
        "runtime": change.runtime,
        "path": str(change.path),
        "set": change.state in _THERE if not refused else None,
        "reason": refused,
    }
