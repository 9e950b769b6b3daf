"""State outside our store, for `explain`: runtimes, lists, mirror settings. Blocking.

Queries the connected runtimes for one name and reads a few settings files; changes nothing. Treats
an unavailable runtime as empty.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from airside.catalog.lookup import ListEntry
from airside.catalog.view import CatalogView
from airside.containerd.kubelet_pulls import read_kubelet_pulls
from airside.containerd.mirror.locations import Node, RegistriesNode
from airside.containerd.mirror.search_order import Search, searches_of
from airside.containerd.pull_records import PullRecords
from airside.core.errors import UnavailableError
from airside.diagnostics.pull_doubts import advice_for_doubt, reason_of
from airside.oci.digest import Digest
from airside.oci.reference import Reference
from airside.ports.content import Only, RuntimeContent, RuntimeTag

Contents = Callable[[], Sequence[tuple[str, RuntimeContent]]]
"""Returns the socket and the content of each connected runtime."""

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


def mirrors_at(host: str, url: str, sockets: Iterable[str]) -> list[dict[str, Any]]:
    """Returns the mirror settings of the containerd at these sockets, else of this host."""
    from airside.diagnostics.mirror_nodes import nodes_at  # noqa: PLC0415 - the doctor, for one answer

    try:
        return [
            item if not unread else item | {"set": False, "then": [], "reason": unread}
            for node, unread in nodes_at(sockets)
            for item in mirrors_of(host, url, [node])
        ]
    except UnavailableError as exc:
        unknown: dict[str, Any] = {"runtime": "", "path": "", "directory": ""}
        return [unknown | {"set": None, "then": [], "reason": exc.message}]


def mirrors_of(host: str, url: str, nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Returns the mirror setting of each of these containerd for the registry `host`.

    `set` is True if it asks `url` first, None if the settings cannot be read; `then`: what it asks
    when that lacks the image.
    """
    return [
        _mirror(each, url) | {"directory": _directory(node)}
        for node in nodes
        for each in searches_of(node, [host])
    ]


def _directory(node: Node) -> str:
    """Returns where its `hosts.toml` files are; "" if K3s makes them."""
    return "" if isinstance(node, RegistriesNode) else str(node.roots[0])


def _mirror(search: Search, url: str) -> dict[str, Any]:
    is_set = search.begins_with(url) if not search.unread else None
    return {
        "runtime": search.runtime,
        "path": str(search.path),
        "set": is_set,
        "then": [address or search.registry for address in search.after(url)] if is_set else [],
        "reason": search.unread or search.ignored,
    }


def kubelet_of(
    name: Reference, image_id: Digest | None, system: Path, *, mirrored: bool
) -> dict[str, Any] | None:
    """Returns whether kubelet runs this image without asking a registry; None without a kubelet.

    `image_id`: of the image for this node. `mirrored`: containerd asks Airside first.
    """
    pulls = read_kubelet_pulls(system)
    policy, doubt = pulls.policy, pulls.doubt_of(name, image_id)
    if not pulls.is_kept and policy.file is None:
        return None
    unread = f"this user may not read {pulls.unread}" if pulls.unread is not None else ""
    return {
        "policy": policy.name,
        "policy_file": str(policy.file) if policy.file is not None else "",
        "asks": doubt is not None if not unread else None,
        "records": [str(path) for path in doubt.files] if doubt is not None else [],
        "reason": reason_of(doubt, policy) if doubt is not None else unread,
        "advice": advice_for_doubt(doubt, policy) if doubt is not None and not mirrored else "",
    }
