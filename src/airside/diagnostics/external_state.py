"""What `explain` tells of what is outside our store: runtimes, lists, mirror settings. Blocking.

Asks the connected runtimes for one name, and reads a few settings files; changes nothing. A runtime
that is away has nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from airside.catalog.lookup import Listed
from airside.catalog.view import CatalogView
from airside.containerd.mirror import hosts_toml as hosts
from airside.containerd.mirror.apply import Change, plan_write
from airside.containerd.mirror.locations import Node, RegistriesNode, find_nodes
from airside.containerd.mirror.managed_block import without_ours
from airside.core.errors import AirsideError, UnavailableError
from airside.oci.reference import Reference
from airside.ports.content import RuntimeContent, RuntimeTag

Contents = Callable[[], Sequence[tuple[str, RuntimeContent]]]
"""Gives the socket and the content of each runtime that is connected now."""

_THERE = {"unchanged", "kept"}


def only_elsewhere(
    view: CatalogView, name: Reference, contents: Contents, policy: str
) -> dict[str, Any] | None:
    """The answer for a name that our catalog lacks and a runtime has; None where none has it.

    Where no runtime can be asked, what was pulled of a list counts as there.
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
    for socket, content in sources if name.repository.host else ():
        try:
            found = _in(content, name)
        except UnavailableError:
            continue
        if found is not None:
            served, why = _served(view, name, found, policy)
            digest = str(found.document.digest)
            yield {"socket": socket, "digest": digest, "served": served, "reason": why}


def _in(content: RuntimeContent, name: Reference) -> RuntimeTag | None:
    if name.digest is None:
        return content.tag(name.repository, name.tag)
    document = content.document(name.repository, name.digest)
    return RuntimeTag(document, (name.digest,)) if document is not None else None


def _served(view: CatalogView, name: Reference, found: RuntimeTag, policy: str) -> tuple[bool, str]:
    """Whether our registry serves it, and to whom, or why not (`registry.through`)."""
    by_tag = name.digest is None
    if policy == "false":
        return False, "the setting read_through is false"
    if not found.needs:
        lacks = f": it lacks blob {found.lacks}" if found.lacks else ""
        return False, f"no image of it is whole{lacks}"
    if view.any_quarantined(found.needs):
        return False, "bytes of it were found wrong"
    if by_tag and policy == "digests":
        return True, "by digest only (read_through is digests)"
    if by_tag and policy == "true":
        return True, "by tag not to that containerd itself, which is to see updates"
    return True, ""


def lists_of(view: CatalogView, name: Reference) -> list[dict[str, Any]]:
    """The lists that name it, and which runtime pulled it, or why it was not pulled."""
    return [_listed(each) for each in view.lookup.listed(str(name))]


def _listed(each: Listed) -> dict[str, Any]:
    return {
        "path": each.path,
        "state": each.state,
        "pulled": not each.reason,
        "runtime": each.runtime.partition(" ")[0],
        "reason": each.reason,
    }


def mirrors_of(host: str, address: str, system: Path) -> list[dict[str, Any]]:
    """Whether each containerd of this machine is set to ask `address` for images of a registry."""
    try:
        nodes = find_nodes(system)
    except AirsideError as exc:
        return [{"runtime": "", "path": "", "set": None, "reason": exc.message}]
    url = f"http://{address}"
    return [_mirror(_deciding(node, url, host)) for node in nodes]


def _deciding(node: Node, url: str, host: str) -> Change:
    """The settings that count for a registry: its own, else those for all others."""
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
