"""The reason a name or an archive is absent, in the words of `airside explain`. Blocking.

Reads the catalog, and the file names of unknown archives; changes nothing. `Place` has what the
catalog lacks: the registry's address, the node's platform, the watched directories.
"""

import difflib
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airside.archive.beneath import Beneath
from airside.archive.directory import is_archive_directory
from airside.catalog.lookup import IncompleteImport, Lookup
from airside.catalog.view import CatalogView
from airside.containerd.sockets import find_sockets
from airside.core.errors import LinkRefusedError, ReferenceInvalidError
from airside.core.rfc3339 import time_text
from airside.core.settings import Settings
from airside.diagnostics.external_state import Contents, lists_of
from airside.diagnostics.image_states import Runtimes
from airside.diagnostics.name_suggestions import nearest_names
from airside.diagnostics.pull_commands import reachable, registry_url
from airside.importer.watch.directories import (
    WatchedDirectories,
    is_candidate,
    is_candidate_directory,
)
from airside.oci.platform import Platform, node_platform, parse_platform
from airside.oci.reference import Reference, Repository, parse_reference

_TROUBLES = 5
_NEAR = 3
_SIMILAR = 0.7
_SUFFIX = re.compile(r"(\.tar)?\.\w+\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """The host of a question. `address` is empty if no registry listens.

    `url`: of the registry, for containerd; `contents`: the images of the connected runtimes;
    `read_through`: the setting.
    """

    address: str
    node: Platform
    watched: WatchedDirectories
    contents: Contents = tuple
    read_through: str = "false"
    url: str = ""
    other_platforms: str = "sole"
    sockets: tuple[str, ...] = ()
    """The containerd that the settings name or that are found now."""
    runtimes: Runtimes = ()
    """The runtimes' part of the agent's status; empty without an agent."""

    @property
    def directories(self) -> list[Path]:
        """The watched directories."""
        return [directory.path for directory in self.watched]


def place_of(settings: Settings, address: str | None = None, contents: Contents = tuple) -> Place:
    """Returns the Place of these settings; `address` overrides the setting `listen`."""
    node = parse_platform(settings.platform) if settings.platform else node_platform()
    listen = settings.listen if address is None else address
    return Place(
        reachable(listen) if listen else "",
        node,
        WatchedDirectories(settings.images),
        contents,
        settings.read_through,
        registry_url(listen, has_tls=bool(settings.tls_cert), public_url=settings.public_url),
        settings.other_platforms,
        tuple(find_sockets(settings.runtime)),
    )


def same_name(written: str, reference: str) -> bool:
    """Returns True if the name, as written in an archive, means this reference."""
    try:
        return str(parse_reference(written)) == reference
    except ReferenceInvalidError:
        return False


# names


def absent_name(view: CatalogView, name: Reference, place: Place) -> dict[str, Any]:
    """The answer for a name that is not in the catalog: similar names, archives, advice."""
    exact = name if name.tag or name.digest else Reference(name.repository, "latest")
    lookup = view.lookup
    last = lookup.last_seen(str(exact))
    for pushed in _without_host(exact) if last is None else ():
        if (last := lookup.last_seen(str(pushed))) is not None:
            exact = pushed
            break
    claims = lookup.claims(exact) if exact.tag else []
    troubles = list(_might_hold(lookup.troubles(), exact))
    return {
        "kind": "absent",
        "reference": str(exact),
        "hint": _hint(lookup, exact),
        "nearest": nearest_names(exact, lookup.names()),
        "troubles": [
            {"archive": t.path, "state": t.state, "reason": _reason_for(t, str(exact))}
            for t in troubles[:_TROUBLES]
        ],
        "last_seen": _last_seen(last) if last else None,
        "removed": [c.path for c in claims if not c.present],
        "lists": lists_of(view, exact),
        "advice": list(_advice(exact, troubles, place)),
    }


def _last_seen(last: tuple[str, float, str, str]) -> dict[str, str | None]:
    event, at, path, client = last
    return {"event": event, "at": time_text(at), "path": path, "by": client}


def _without_host(name: Reference) -> Iterator[Reference]:
    """Yields names without a host: pushes under a short name, which is read as Docker Hub's."""
    if name.repository.host == "docker.io":
        path = name.repository.path
        for each in dict.fromkeys((path.removeprefix("library/"), path)):
            yield Reference(Repository("", each), name.tag, name.digest)


def _hint(lookup: Lookup, name: Reference) -> str:
    """The part of the name that the catalog has."""
    if lookup.tags(name.repository):
        what = f"no tag {name.tag}" if name.digest is None else "no document of this digest"
        return f"the repository {name.repository} has {what}"
    path = name.repository.path.removeprefix("library/")
    found = {n.repository for n in lookup.names() if _is_at(n.repository.path, path)}
    hosts = ", ".join(sorted(map(str, found))[:_NEAR])
    return f"there is no repository {name.repository}, but there is {hosts}" if found else ""


def _is_at(path: str, wanted: str) -> bool:
    return path == wanted or path.endswith(f"/{wanted}")


def _might_hold(troubles: list[IncompleteImport], name: Reference) -> Iterator[IncompleteImport]:
    """Yields the archives that name it, then those whose names are unknown."""
    naming = [t for t in troubles if _names(t, str(name))]
    unread = [t for t in troubles if t not in naming and not any(p.image for p in t.problems)]
    word = name.repository.path.rpartition("/")[2].lower()
    yield from naming
    yield from sorted(unread, key=lambda t: not _is_called(t, word))


def _names(trouble: IncompleteImport, reference: str) -> bool:
    return any(p.image and same_name(p.image, reference) for p in trouble.problems)


def _is_called(trouble: IncompleteImport, word: str) -> bool:
    return word in Path(trouble.path).name.lower()


def _reason_for(trouble: IncompleteImport, reference: str) -> str:
    reasons = (p.reason for p in trouble.problems if p.image and same_name(p.image, reference))
    return next(reasons, trouble.reason)


def _advice(name: Reference, troubles: list[IncompleteImport], place: Place) -> Iterator[str]:
    word = name.repository.path.rpartition("/")[2].lower()
    for trouble in troubles[:1]:
        if _names(trouble, str(name)) or _is_called(trouble, word):
            state = _state_text(trouble.state, trouble.kind) or "is not imported"
            yield f"check {trouble.path}, which {state}"
    where = str(place.directories[0]) if place.directories else "a watched directory"
    file = word + ".tar"
    if not name.repository.host:
        yield "push it again; if it came from an archive, drop that archive again"
        return
    if name.digest is None:
        node = place.node
        flags = f"--override-os {node.os} --override-arch {node.architecture}"
        flags += f" --override-variant {node.variant}" if node.variant else ""
        target = f"docker-archive:{file}:{name.repository}:{name.tag}"
        yield f"on a host with a network: skopeo {flags} copy docker://{name} {target}"
    else:
        flags = "--all --preserve-digests"
        yield f"on a host with a network: skopeo copy {flags} docker://{name} oci-archive:{file}"
    yield f"then drop {file} into {where}"


# archives

_ARCHIVE_STATES = {
    "settling": "may still be written: it is imported when it stops growing",
    "incomplete": "ends early: it is read again when it grows; copy it again if no copy runs",
    "queued": "waits in the import queue",
    "importing": "is being imported",
    "partial": "was imported in part: create it again with all blobs of its images",
    "rejected": "is damaged or not an image archive: create it again and replace this file",
    "failed": "could not be imported; the import is retried",
    "waiting": "is in a directory that is absent now",
    "ignored": "is no archive and is left alone",
    "unreadable": "cannot be read by the agent: check its permissions",
}


_LIST_STATES = {
    "settling": "may still be written: it is read when it stops growing",
    "queued": "waits in the import queue",
    "importing": "is being pulled",
    "partial": "was pulled in part; failed images are retried",
    "rejected": "is not a list of image names, one on each line",
    "failed": "could not be pulled; the pull is retried: check the network, or drop archives of "
    "the images",
    "waiting": "waits for a container runtime with CRI, or for its directory",
    "unreadable": "cannot be read by the agent: check its permissions",
}


def advice_for(state: str, kind: str = "archive") -> list[str]:
    """Returns the advice for an archive or list in this state; empty if there is none."""
    text = _state_text(state, kind)
    return [f"it {text}"] if text else []


def _state_text(state: str, kind: str) -> str:
    return (_LIST_STATES if kind == "list" else _ARCHIVE_STATES).get(state, "")


def absent_archive(view: CatalogView, text: str, place: Place) -> dict[str, Any]:
    """The answer for a path or file name that is not in the catalog."""
    stem = _stem(text)
    ratios = {row.path: _ratio(stem, _stem(row.path)) for row in view.sources()}
    near = sorted((p for p in ratios if ratios[p] >= _SIMILAR), key=lambda p: (-ratios[p], p))
    advice = list(_why_unknown(Path(text), place)) if text.startswith("/") else []
    if not advice:
        advice = ["no archive has this name; `airside archives` lists all archives"]
    nearest = near[:_NEAR]
    return {"kind": "absent", "nearest": nearest, "troubles": [], "advice": advice}


def _stem(path: str) -> str:
    """Returns the file name without the suffixes of archives."""
    return _SUFFIX.sub("", Path(path).name)


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def _why_unknown(path: Path, place: Place) -> Iterator[str]:
    """The reason; of a path outside the watched directories nothing is said, not that it exists."""
    watched = ", ".join(map(str, place.directories)) or "none"
    if path in place.directories:
        yield "it is a watched directory; `airside archives` lists its archives"
    elif (owner := place.watched.owner(path)) is None:
        yield f"it is not in a watched directory (watched: {watched})"
        yield f"import it now with `airside import {path}`, or move it there"
    else:
        beneath = place.watched.beneath(path)
        try:
            found = beneath.stat(path)
        except LinkRefusedError as exc:
            yield exc.message
        except OSError:
            yield _why_not_there(path, beneath)
        else:
            yield _why_not_seen(path, owner.path, beneath, found.st_mode)


def _why_not_there(path: Path, beneath: Beneath) -> str:
    try:
        target = beneath.read_link(path)
    except (OSError, LinkRefusedError):
        target = ""
    return f"it is a link to {target}, which is absent" if target else "the file does not exist"


def _why_not_seen(path: Path, root: Path, beneath: Beneath, mode: int) -> str:
    """The reason the agent has no archive of a path in a watched directory."""
    for parent in [p for p in path.parents if root in p.parents]:
        if is_archive_directory(parent, beneath):
            return f"it is part of the archive {parent}: explain that path instead"
        if not is_candidate_directory(parent.name):
            return f"it is in {parent}, which is skipped because of its name"
    if not is_candidate(path.name):
        return (
            "its name is that of a temporary file or not of an archive: rename it, for example to "
            "end in .tar, .tar.gz or .tar.zst"
        )
    if stat.S_ISDIR(mode) and not is_archive_directory(path, beneath):
        return "it is a directory but not an image layout; `airside archives` lists its archives"
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return "it is neither a file nor a directory"
    return "the agent has not seen it yet: it is still being written, or no agent runs"
