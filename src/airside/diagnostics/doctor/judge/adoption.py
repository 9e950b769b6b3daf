"""How blobs enter each containerd: by a link, as a copy, or sent. Pure.

Nothing here keeps an image from coming in: what can't be linked is copied, and what can't be
copied is sent. It costs time, and the bytes a second time.
"""

from collections.abc import Iterator
from pathlib import PurePath

from airside.diagnostics.doctor.facts import Facts, Runtime, Trial
from airside.diagnostics.doctor.finding import Finding, Severity
from airside.diagnostics.doctor.judge.stores import judge_inodes

_KUBELET_SHARE = 0.15
"""kubelet deletes images where less is free (imageGCHighThresholdPercent is 85)."""
_SHARED = 'content_sharing_policy = "shared" under [plugins."io.containerd.metadata.v1.bolt"]'


def judge_adoption(facts: Facts) -> Iterator[Finding]:
    for runtime in facts.runtimes:
        if runtime.state != "answers":
            continue
        yield _policy(runtime)
        yield _way(runtime, facts)
        yield from _collection(runtime)
        yield from _volume(runtime, facts)
        yield from _labels(runtime, facts)


def _policy(runtime: Runtime) -> Finding:
    identity, subject = "containerd.sharing", runtime.socket
    if runtime.policy == "shared":
        return Finding(identity, "ok", subject, "content_sharing_policy is shared")
    return Finding(
        identity,
        "warning",
        subject,
        f"content_sharing_policy is {runtime.policy or 'not known'}: every blob is sent to "
        "containerd, and takes its bytes a second time",
        f"set {_SHARED} in its configuration, and restart it",
    )


def _way(runtime: Runtime, facts: Facts) -> Finding:
    trial, root = runtime.trial, runtime.content_root
    if runtime.root_sight == "forbidden":
        return _told(
            runtime,
            "note",
            f"its content directory {root} may not be seen by this user: whether blobs can be "
            "linked into it was not tried",
            "run the doctor as root",
        )
    if runtime.root_sight == "absent":
        where = ", which has mounts of its own" * runtime.other_mounts
        return _told(
            runtime,
            "warning",
            f"its content directory {root or '(not told)'} is not visible here: it is a path of "
            f"containerd{where}; every blob is sent",
            "run the agent where that path is containerd's (in a container: mount it at the same "
            "path)",
        )
    if trial is None:
        return _told(
            runtime,
            "note",
            "no real link was tried: it is made from the data directory, which is not there yet or "
            "may not be written by this user",
            "run the doctor again, as root, after the agent has been started",
        )
    return _tried(runtime, trial, facts)


def _tried(runtime: Runtime, trial: Trial, facts: Facts) -> Finding:
    data, root = facts.settings.data, runtime.content_root
    if trial.error:
        return _told(
            runtime,
            "problem",
            f"no link could be tried: {trial.error}",
            "see to what it names (space, a read-only file system, permissions)",
        )
    if not trial.adopted:
        if runtime.policy == "isolated":
            return _told(runtime, "note", "it takes no file, since its policy is isolated")
        return _told(
            runtime,
            "warning",
            f"it does not take a file that lies in {root}: {trial.reason}; every blob is sent",
            f"see that {root} is containerd's own directory, and {_SHARED}",
        )
    if trial.way == "copy":
        near = PurePath(root).parents[1] if len(PurePath(root).parents) > 1 else PurePath(root)
        return _told(
            runtime,
            "warning",
            f"a file of {data} can't be linked into {root} ({trial.no_link}): blobs are copied, "
            "and take their bytes twice",
            f"put the data directory on the same mount, for instance --data {near}/airside",
        )
    return _told(runtime, "ok", f"a file of {data} was linked and taken without being sent")


def _told(runtime: Runtime, severity: Severity, found: str, advice: str = "") -> Finding:
    return Finding("containerd.link", severity, runtime.socket, found, advice)


def _collection(runtime: Runtime) -> Iterator[Finding]:
    """A name that is no digest makes every collection of content fail."""
    trial = runtime.trial
    if runtime.foreign_names:
        yield Finding(
            "containerd.collection",
            "problem",
            runtime.socket,
            f"its blob directory has names that are no digests: {', '.join(runtime.foreign_names)}"
            "; its garbage collection fails, and the disk fills",
            f"remove them from {runtime.content_root}/blobs",
        )
    elif trial is not None and trial.adopted and trial.collected is False:
        yield Finding(
            "containerd.collection",
            "warning",
            runtime.socket,
            "it did not delete the file of a blob that was removed (Airside has): its garbage "
            "collection fails",
            "look into its log for `garbage collection failed`",
        )
    elif trial is not None and trial.collected:
        yield Finding(
            "containerd.collection", "ok", runtime.socket, "its garbage collection deletes"
        )


def _volume(runtime: Runtime, facts: Facts) -> Iterator[Finding]:
    volume, root = runtime.volume, runtime.content_root
    if volume is None:
        return
    store = facts.store.volume if facts.store is not None else None
    if store is not None and store.point == volume.point:
        return  # told of the data directory
    free = volume.free_bytes / max(volume.total_bytes, 1)
    told = f"{volume.free_bytes // 1_000_000} MB of {volume.total_bytes // 1_000_000} MB are free"
    if free < _KUBELET_SHARE:
        yield Finding(
            "containerd.space",
            "warning",
            root,
            f"only {told}: where less than 15 % are, kubelet deletes images that are not pinned",
            "free space",
        )
    else:
        yield Finding("containerd.space", "ok", root, told)
    yield from judge_inodes("containerd.inodes", root, volume)


def _labels(runtime: Runtime, facts: Facts) -> Iterator[Finding]:
    """A link has the label of the file: containerd must be allowed to read ours."""
    host, store = facts.host, facts.store
    if host is None or store is None or host.selinux == "off":
        return
    if not runtime.label or not store.label:
        return
    ours, its = _type(store.label), _type(runtime.label)
    subject = runtime.socket
    if ours == its:
        yield Finding("containerd.selinux", "ok", subject, f"the store has its type, {its}")
        return
    yield Finding(
        "containerd.selinux",
        "warning" if host.selinux == "enforcing" else "note",
        subject,
        f"SELinux is {host.selinux}; files of the data directory are {ours}, those of containerd "
        f"{its}: it may be kept from reading blobs that are linked",
        f"semanage fcontext -a -t {its} '{store.path}(/.*)?' && restorecon -R {store.path}",
    )


def _type(label: str) -> str:
    parts = label.split(":")
    return parts[2] if len(parts) > 2 else label
