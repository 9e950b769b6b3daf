"""The data directory and the watched directories. Pure."""

from collections.abc import Iterator

from airside.core.settings import Settings
from airside.diagnostics.doctor.facts import Agent, Directory, Facts, Store, Volume
from airside.diagnostics.doctor.finding import Finding

_LOW_SHARE = 0.1
_FEW_INODES = 2_000
_MB = 1_000_000
_IN_MEMORY = {"tmpfs", "ramfs"}
_IN_LAYERS = {"overlay", "aufs"}
_OTHERS_MAY_WRITE = 0o002


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
    """Only told where something is wrong: that all is right, `airside verify` finds out."""
    told = [f"{n} {s}" for n, s in ((store.quarantined, "wrong"), (store.lost, "lost")) if n]
    if told:
        yield Finding(
            "data.blobs",
            "warning",
            str(store.path),
            f"blobs that images need are not right: {', '.join(told)}",
            "airside verify --repair gets what can be had, and names the images of the rest",
        )


def _directory(store: Store, agent: Agent | None) -> Iterator[Finding]:
    path = str(store.path)
    runs = agent is not None and agent.state in {"running", "forbidden"}
    if store.reason:
        yield Finding(
            "data.directory", "note", path, f"it could not be looked at: {store.reason}", _AS_ROOT
        )
    elif not store.writable:
        text = "this user may not write it" if store.exists else "this user cannot make it"
        advice = "run the agent as its owner, or choose another --data"
        if runs:
            yield Finding("data.directory", "note", path, f"{text}; the agent runs as another")
        else:
            yield Finding("data.directory", "problem", path, text, advice)
    elif store.format is not None and store.format > store.newest_format:
        yield Finding(
            "data.directory",
            "problem",
            path,
            f"it has the format {store.format}; this version knows {store.newest_format}",
            "use the version of Airside that wrote it, or a newer one",
        )
    elif store.mode & _OTHERS_MAY_WRITE:
        yield Finding(
            "data.directory", "warning", path, "every user may write it", f"chmod o-w {path}"
        )
    elif store.exists:
        yield Finding("data.directory", "ok", path, "it is there and can be written")
    else:
        yield Finding("data.directory", "note", path, "it is not there yet: the agent makes it")
    yield from _lock(store, agent)


def _lock(store: Store, agent: Agent | None) -> Iterator[Finding]:
    if store.holder is None or agent is None or agent.state != "absent":
        return
    yield Finding(
        "data.lock",
        "warning",
        str(store.path),
        f"the process {store.holder} has it, but no agent answers",
        "it may be a command (import, gc), or an agent that starts or ends; if it stays, look "
        f"at the process {store.holder}",
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
            f"it lies on a network file system ({volume.kind}), where the catalog is not safe",
            "choose a --data on a local disk",
        )
    if volume.kind in _IN_MEMORY:
        return Finding(
            "data.file-system",
            "warning",
            path,
            f"it lies in memory ({volume.kind}): all is lost at the next boot",
            "choose a --data on a disk",
        )
    if volume.kind in _IN_LAYERS:
        return Finding(
            "data.file-system",
            "warning",
            path,
            f"it lies on {volume.kind}, a container's own layer: it goes with the container, and "
            "nothing can be linked from it",
            "mount a directory of the host there, or choose another --data",
        )
    return Finding("data.file-system", "ok", path, f"{volume.kind} at {volume.point}")


def _space(store: Store, volume: Volume, settings: Settings) -> Finding:
    path, least = str(store.path), settings.min_free_bytes
    told = f"{volume.free_bytes // _MB} MB of {volume.total_bytes // _MB} MB are free"
    if volume.free_bytes < least:
        return Finding(
            "data.space",
            "problem",
            path,
            f"{told}, less than min_free_bytes ({least // _MB} MB): nothing is imported",
            "free space; airside gc --dry-run tells what Airside could give back",
        )
    if volume.free_bytes < least + settings.low_space_bytes:
        return Finding(
            "data.space",
            "warning",
            path,
            f"only {told}: earlier versions and images without their archive are collected "
            "before their time (low_space_bytes)",
            "free space; airside gc --dry-run tells what Airside could give back",
        )
    if volume.free_bytes < max(2 * least, _LOW_SHARE * volume.total_bytes):
        return Finding(
            "data.space",
            "warning",
            path,
            f"only {told}",
            "free space; airside gc --dry-run tells what Airside could give back",
        )
    return Finding("data.space", "ok", path, told)


def judge_inodes(identity: str, path: str, volume: Volume) -> Iterator[Finding]:
    """Each blob is a file, and each file of an unpacked image is one."""
    if not volume.inodes:
        return
    told = f"{volume.free_inodes} of {volume.inodes} inodes are free"
    if volume.free_inodes < _FEW_INODES:
        yield Finding(identity, "problem", path, f"only {told}", "delete files, or make it larger")
    elif volume.free_inodes < _LOW_SHARE * volume.inodes:
        yield Finding(identity, "warning", path, f"only {told}", "delete files, or make it larger")
    else:
        yield Finding(identity, "ok", path, told)


_AS_ROOT = "run the doctor as root, or as the user that the agent runs as"


# watched directories


def judge_directories(facts: Facts) -> Iterator[Finding]:
    for directory in facts.directories:
        yield from _watched(directory, facts.agent)


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
            f"drop as root, or let a group write: chgrp GROUP {path}; chmod g+w {path}",
        )
    if directory.importer:
        yield Finding(
            "images.shared",
            "warning",
            path,
            f"{directory.importer} imports from it too, unverified and with its own names",
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
            "it is not there: nothing can be dropped",
            "the agent makes it when it starts" if made else f"mkdir -p {path}",
        )
    if directory.sight == "visible" and not directory.is_directory:
        return Finding(
            "images.directory", "problem", path, "it is no directory", "name a directory"
        )
    if directory.sight == "visible" and directory.readable:
        return None
    if agent is not None and agent.state in {"running", "forbidden"}:
        return Finding(
            "images.directory", "note", path, "this user may not read it; the agent is another"
        )
    return Finding(
        "images.directory",
        "problem",
        path,
        "this user may not read it",
        "make it readable for the user that the agent runs as",
    )


def _noticed(directory: Directory, agent: Agent | None) -> Finding:
    """How a drop is noticed: as the agent says, else as its file system lets expect."""
    path, volume = str(directory.path), directory.volume
    mode, reason = ("", "")
    if agent is not None:
        mode, reason = agent.modes.get(path, ("", ""))
    if not mode:
        slow = volume is not None and (volume.is_remote or volume.kind in _IN_LAYERS)
        mode, reason = ("polling", volume.kind) if slow and volume else ("inotify", "")
    if mode == "inotify":
        kind = f" ({volume.kind})" if volume is not None else ""
        return Finding("images.directory", "ok", path, f"a drop is noticed at once{kind}")
    because = f": {reason}" if reason else ""
    if mode != "polling":
        return Finding(
            "images.directory",
            "warning",
            path,
            f"the agent does not watch it ({mode}){because}",
            "see to what it names; the agent looks again by itself",
        )
    return Finding(
        "images.directory",
        "note",
        path,
        f"a drop is noticed with delay, by polling{because}",
        "a directory on a local disk is noticed at once" if volume and volume.is_remote else "",
    )
