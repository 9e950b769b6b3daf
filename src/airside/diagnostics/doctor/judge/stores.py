"""Findings about the data directory and the watched directories. Pure."""

from collections.abc import Iterator

from airside.core.settings import Settings
from airside.diagnostics.doctor.facts import Agent, Directory, Facts, Store, Volume
from airside.diagnostics.doctor.finding import Finding

_LOW_SHARE = 0.1
_FEW_INODES = 2_000
_MB = 1_000_000
_IN_MEMORY = {"tmpfs", "ramfs"}
_IN_LAYERS = {"overlay", "aufs"}
_OTHERS, _OTHERS_MAY_WRITE = 0o007, 0o002


def judge_store(facts: Facts) -> Iterator[Finding]:
    store = facts.store
    if store is None:
        return
    yield from _directory(store, facts.agent)
    yield from _blobs(store)
    if store.volume is None:
        return
    yield _kind(store, store.volume)
    yield _space(store, store.volume, facts.settings)
    yield from judge_inodes("data.inodes", str(store.path), store.volume)


def _blobs(store: Store) -> Iterator[Finding]:
    """Reports damage only: that all blobs are intact, only `airside verify` can tell."""
    counts = [f"{n} {s}" for n, s in ((store.quarantined, "damaged"), (store.lost, "lost")) if n]
    if counts:
        yield Finding(
            "data.blobs",
            "problem",
            str(store.path),
            f"blobs that images need are unusable: {', '.join(counts)}",
            "run airside verify --repair; it names the images it cannot repair",
        )


def _directory(store: Store, agent: Agent | None) -> Iterator[Finding]:
    path = str(store.path)
    runs = agent is not None and agent.state in {"running", "forbidden"}
    if store.reason:
        yield Finding(
            "data.directory", "note", path, f"it could not be checked: {store.reason}", _AS_ROOT
        )
    elif not store.writable:
        text = "this user may not write it" if store.exists else "this user cannot create it"
        advice = "run the agent as its owner, or choose another --data"
        if runs:
            yield Finding("data.directory", "note", path, f"{text}; the agent runs as another user")
        else:
            yield Finding("data.directory", "problem", path, text, advice)
    elif store.format is not None and store.format > store.newest_format:
        yield Finding(
            "data.directory",
            "problem",
            path,
            f"it has format {store.format}; this version supports up to {store.newest_format}",
            "use the version of Airside that wrote it, or a newer one",
        )
    elif store.mode & _OTHERS:
        may = "write" if store.mode & _OTHERS_MAY_WRITE else "read"
        text = f"every user of this host may {may} it, past the rules of the registry"
        yield Finding("data.directory", "warning", path, text, f"chmod o-rwx {path}")
    elif store.exists:
        yield Finding("data.directory", "ok", path, "it exists and is writable")
    else:
        yield Finding("data.directory", "note", path, "it does not exist yet: the agent creates it")
    yield from _lock(store, agent)


def _lock(store: Store, agent: Agent | None) -> Iterator[Finding]:
    if store.holder is None or agent is None or agent.state != "absent":
        return
    yield Finding(
        "data.lock",
        "warning",
        str(store.path),
        f"process {store.holder} holds the lock, but no agent answers",
        "it may be a command (import, gc), or an agent that is starting or stopping; if it stays, "
        f"check the process {store.holder}",
    )


def _kind(store: Store, volume: Volume) -> Finding:
    path = str(store.path)
    if volume.is_read_only:
        return Finding(
            "data.file-system", "problem", path, "its file system is read-only", "mount it writable"
        )
    if volume.is_remote:
        return Finding(
            "data.file-system",
            "problem",
            path,
            f"it is on a network file system ({volume.kind}), where the catalog is not safe",
            "choose a --data on a local disk",
        )
    if volume.kind in _IN_MEMORY:
        return Finding(
            "data.file-system",
            "warning",
            path,
            f"it is in memory ({volume.kind}): the next boot deletes all data",
            "choose a --data on a disk",
        )
    if volume.kind in _IN_LAYERS:
        return Finding(
            "data.file-system",
            "warning",
            path,
            f"it is on {volume.kind}, a container's own layer: deleting the container deletes it, "
            "and no file can be linked from it",
            "mount a directory of the host there, or choose another --data",
        )
    return Finding("data.file-system", "ok", path, f"{volume.kind} at {volume.point}")


def _space(store: Store, volume: Volume, settings: Settings) -> Finding:
    path, least = str(store.path), settings.min_free_bytes
    free = f"{volume.free_bytes // _MB} MB of {volume.total_bytes // _MB} MB are free"
    if volume.free_bytes < least:
        return Finding(
            "data.space",
            "problem",
            path,
            f"{free}, less than min_free_bytes ({least // _MB} MB): nothing is imported",
            "free space; airside gc --dry-run shows how much Airside could free",
        )
    if volume.free_bytes < least + settings.low_space_bytes:
        return Finding(
            "data.space",
            "warning",
            path,
            f"only {free}: earlier versions and images without an archive are deleted early "
            "(low_space_bytes)",
            "free space; airside gc --dry-run shows how much Airside could free",
        )
    if volume.free_bytes < max(2 * least, _LOW_SHARE * volume.total_bytes):
        return Finding(
            "data.space",
            "warning",
            path,
            f"only {free}",
            "free space; airside gc --dry-run shows how much Airside could free",
        )
    return Finding("data.space", "ok", path, free)


def judge_inodes(identity: str, path: str, volume: Volume) -> Iterator[Finding]:
    """Each blob and each file of an unpacked image needs an inode."""
    if not volume.inodes:
        return
    free = f"{volume.free_inodes} of {volume.inodes} inodes are free"
    if volume.free_inodes < _FEW_INODES:
        yield Finding(
            identity, "problem", path, f"only {free}", "delete files, or enlarge the file system"
        )
    elif volume.free_inodes < _LOW_SHARE * volume.inodes:
        yield Finding(
            identity, "warning", path, f"only {free}", "delete files, or enlarge the file system"
        )
    else:
        yield Finding(identity, "ok", path, free)


_AS_ROOT = "run the doctor as root or as the user of the agent"


# watched directories


def judge_directories(facts: Facts) -> Iterator[Finding]:
    any_links = {watched.path for watched in facts.settings.images if watched.links == "any"}
    for directory in facts.directories:
        yield from _watched(directory, facts.agent)
        if directory.takes_from_others and directory.path in any_links:
            yield Finding(
                "images.links",
                "warning",
                str(directory.path),
                "others than root may write into it, and links in it may lead to every image "
                'archive that the agent may read (links = "any")',
                'set links = "owner" or "inside", or take their right to write',
            )


def _watched(directory: Directory, agent: Agent | None) -> Iterator[Finding]:
    path = str(directory.path)
    bad = _unusable(directory, agent)
    if bad is not None:
        yield bad
        return
    yield _noticed(directory, agent)
    if not directory.writable:
        yield Finding(
            "images.writable",
            "note",
            path,
            "this user may not drop archives into it",
            f"drop archives as root, or allow a group: chgrp GROUP {path}; chmod g+w {path}",
        )
    if directory.importer:
        yield Finding(
            "images.shared",
            "warning",
            path,
            f"{directory.importer} also imports from it, unverified and with its own names",
            "watch a directory of your own",
        )


def _unusable(directory: Directory, agent: Agent | None) -> Finding | None:
    path = str(directory.path)
    if directory.sight == "absent":
        made = directory.is_default and (agent is None or agent.state == "absent")
        return Finding(
            "images.directory",
            "note" if made else "warning",
            path,
            "it does not exist: no archive can be dropped",
            "the agent creates it when it starts" if made else f"mkdir -p {path}",
        )
    if directory.sight == "visible" and not directory.is_directory:
        return Finding(
            "images.directory", "problem", path, "it is not a directory", "set a directory"
        )
    if directory.sight == "visible" and directory.readable:
        return None
    if agent is not None and agent.state in {"running", "forbidden"}:
        return Finding(
            "images.directory",
            "note",
            path,
            "this user may not read it; the agent runs as another user",
        )
    return Finding(
        "images.directory",
        "problem",
        path,
        "this user may not read it",
        "make it readable for the user of the agent",
    )


def _noticed(directory: Directory, agent: Agent | None) -> Finding:
    """The way new archives are noticed: as the agent reports, else by the file system's kind."""
    path, volume = str(directory.path), directory.volume
    mode, reason = ("", "")
    if agent is not None:
        mode, reason = agent.modes.get(path, ("", ""))
    if not mode:
        slow = volume is not None and (volume.is_remote or volume.kind in _IN_LAYERS)
        mode, reason = ("polling", volume.kind) if slow and volume else ("inotify", "")
    if mode == "inotify":
        kind = f" ({volume.kind})" if volume is not None else ""
        return Finding("images.directory", "ok", path, f"new archives are noticed at once{kind}")
    because = f": {reason}" if reason else ""
    if mode != "polling":
        return Finding(
            "images.directory",
            "problem" if mode == "unreadable" else "warning",
            path,
            f"the agent does not watch it ({mode}){because}",
            "fix the cause; the agent looks again by itself",
        )
    return Finding(
        "images.directory",
        "note",
        path,
        f"new archives are noticed with a delay, by polling{because}",
        "use a directory on a local disk to notice them at once"
        if volume and volume.is_remote
        else "",
    )
