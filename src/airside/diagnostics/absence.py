"""Why a name or an archive is not here, in the words of `airside explain`. Blocking.

Reads the catalog, and of files that it does not know the names; changes nothing. `Place` is what
the catalog can't tell: the registry's address, this node's platform, what is watched.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airside.archive.directory import is_archive_directory
from airside.catalog.lookup import Lookup, Trouble
from airside.catalog.view import CatalogView
from airside.core.errors import ReferenceInvalidError
from airside.core.settings import Settings
from airside.diagnostics.external_state import Contents, lists_of
from airside.diagnostics.name_suggestions import nearest_names
from airside.diagnostics.pull_commands import reachable
from airside.diagnostics.reports import time_text
from airside.importer.watch.directories import Places, is_candidate, is_candidate_directory
from airside.oci.platform import Platform, node_platform, parse_platform
from airside.oci.reference import Reference, Repository, parse_reference

_TROUBLES = 5
_NEAR = 3
_SIMILAR = 0.7
_SUFFIX = re.compile(r"(\.tar)?\.\w+\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the question is asked: the address is empty where no registry listens.

    `contents`: what the runtimes hold that are connected; `read_through`: the setting.
    """

    address: str
    node: Platform
    watched: Places
    contents: Contents = tuple
    read_through: str = "false"

    @property
    def directories(self) -> list[Path]:
        return [directory.path for directory in self.watched]


def place_of(settings: Settings, address: str | None = None, contents: Contents = tuple) -> Place:
    node = parse_platform(settings.platform) if settings.platform else node_platform()
    listen = settings.listen if address is None else address
    where = reachable(listen) if listen else ""
    return Place(where, node, Places(settings.images), contents, settings.read_through)


def same_name(written: str, reference: str) -> bool:
    """Whether an archive's way to write a name means this reference."""
    try:
        return str(parse_reference(written)) == reference
    except ReferenceInvalidError:
        return False


# names


def absent_name(view: CatalogView, name: Reference, place: Place) -> dict[str, Any]:
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
    """What was pushed here under a short name, which is read as Docker Hub's."""
    if name.repository.host == "docker.io":
        path = name.repository.path
        for each in dict.fromkeys((path.removeprefix("library/"), path)):
            yield Reference(Repository("", each), name.tag, name.digest)


def _hint(lookup: Lookup, name: Reference) -> str:
    """How much of the name is here."""
    if lookup.tags(name.repository):
        what = f"the tag {name.tag}" if name.digest is None else "this digest"
        return f"the repository {name.repository} is here, but not {what}"
    path = name.repository.path.removeprefix("library/")
    found = {n.repository for n in lookup.names() if _is_at(n.repository.path, path)}
    hosts = ", ".join(sorted(map(str, found))[:_NEAR])
    return f"no repository {name.repository} is here, but {hosts}" if found else ""


def _is_at(path: str, wanted: str) -> bool:
    return path == wanted or path.endswith(f"/{wanted}")


def _might_hold(troubles: list[Trouble], name: Reference) -> Iterator[Trouble]:
    """The archives that say they have it, then those of which nobody knows what they hold."""
    told = [t for t in troubles if _speaks_of(t, str(name))]
    unread = [t for t in troubles if t not in told and not any(p.image for p in t.problems)]
    word = name.repository.path.rpartition("/")[2].lower()
    yield from told
    yield from sorted(unread, key=lambda t: not _is_called(t, word))


def _speaks_of(trouble: Trouble, reference: str) -> bool:
    return any(p.image and same_name(p.image, reference) for p in trouble.problems)


def _is_called(trouble: Trouble, word: str) -> bool:
    return word in Path(trouble.path).name.lower()


def _reason_for(trouble: Trouble, reference: str) -> str:
    told = (p.reason for p in trouble.problems if p.image and same_name(p.image, reference))
    return next(told, trouble.reason)


def _advice(name: Reference, troubles: list[Trouble], place: Place) -> Iterator[str]:
    word = name.repository.path.rpartition("/")[2].lower()
    for trouble in troubles[:1]:
        if _speaks_of(trouble, str(name)) or _is_called(trouble, word):
            said = _said(trouble.state, trouble.kind) or "is not imported"
            yield f"see to {trouble.path}, which {said}"
    where = str(place.directories[0]) if place.directories else "a watched directory"
    file = word + ".tar"
    if not name.repository.host:
        yield "push it again; if an archive brought it, drop that again"
        return
    if name.digest is None:
        node = place.node
        flags = f"--override-os {node.os} --override-arch {node.architecture}"
        flags += f" --override-variant {node.variant}" if node.variant else ""
        target = f"docker-archive:{file}:{name.repository}:{name.tag}"
        yield f"where there is a network: skopeo {flags} copy docker://{name} {target}"
    else:
        flags = "--all --preserve-digests"
        yield f"where there is a network: skopeo copy {flags} docker://{name} oci-archive:{file}"
    yield f"then drop {file} into {where}"


# archives

_SAID = {
    "settling": "may still be written: it is read when it is quiet",
    "incomplete": "ends early: it is read again when it grows; if nothing copies it, copy it again",
    "queued": "waits for its turn",
    "importing": "is being read",
    "partial": "is read, but not all of its images are whole: make it again with all their blobs",
    "rejected": "is damaged or no image archive: make it again, and drop it over this one",
    "failed": "could not be read for now, and is tried again",
    "waiting": "is in a directory that is not there now",
    "unreadable": "is not to be read by the agent: see to its permissions",
}


_SAID_OF_LISTS = {
    "settling": "may still be written: it is read when it is quiet",
    "queued": "waits for its turn",
    "importing": "is being pulled",
    "partial": "is pulled in part; what a registry did not give is tried again",
    "rejected": "is no list of image names, one on each line",
    "failed": "could not be pulled for now, and is tried again: see to the network, or drop "
    "archives of the images",
    "waiting": "waits for a container runtime with CRI, or for its directory",
    "unreadable": "is not to be read by the agent: see to its permissions",
}


def advice_for(state: str, kind: str = "archive") -> list[str]:
    """What an operator should know of an archive or list in this state."""
    said = _said(state, kind)
    return [f"it {said}"] if said else []


def _said(state: str, kind: str) -> str:
    return (_SAID_OF_LISTS if kind == "list" else _SAID).get(state, "")


def absent_archive(view: CatalogView, text: str, place: Place) -> dict[str, Any]:
    """An archive, by its path or its file name, that the catalog does not know."""
    stem = _stem(text)
    ratios = {row.path: _ratio(stem, _stem(row.path)) for row in view.sources()}
    near = sorted((p for p in ratios if ratios[p] >= _SIMILAR), key=lambda p: (-ratios[p], p))
    advice = list(_why_unknown(Path(text), place)) if text.startswith("/") else []
    if not advice:
        advice = ["no archive has this name: `airside archives` lists all"]
    nearest = near[:_NEAR]
    return {"kind": "absent", "nearest": nearest, "troubles": [], "advice": advice}


def _stem(path: str) -> str:
    """The file's name without what all archives' names end in."""
    return _SUFFIX.sub("", Path(path).name)


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def _why_unknown(path: Path, place: Place) -> Iterator[str]:
    watched = ", ".join(map(str, place.directories)) or "none"
    if not path.exists():
        link = f"it is a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
        yield link or "there is no such file"
    elif path in place.directories:
        yield "it is a watched directory: `airside archives` lists what is in it"
    elif (owner := place.watched.owner(path)) is None:
        yield f"it is in no watched directory (watched: {watched})"
        yield f"import it now with `airside import {path}`, or move it there"
    else:
        yield _why_not_seen(path, owner.path)


def _why_not_seen(path: Path, root: Path) -> str:
    """Of what is in a watched directory."""
    for parent in [p for p in path.parents if root in p.parents]:
        if is_archive_directory(parent):
            return f"it is a part of {parent}, which is one archive: ask for that"
        if not is_candidate_directory(parent.name):
            return f"it lies in {parent}, which is not looked into because of its name"
    if not is_candidate(path.name):
        return (
            "its name is one that tools use while they write, or of no archive: rename it, for "
            "instance to end in .tar, .tar.gz or .tar.zst"
        )
    if path.is_dir() and not is_archive_directory(path):
        return "it is a directory, and no image layout: `airside archives` lists what is in it"
    if not path.is_file() and not path.is_dir():
        return "it is neither a file nor a directory"
    return "it was not seen yet: it is still being written, or no agent runs"
