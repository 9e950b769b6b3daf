"""The transfer of blobs to each containerd: by hard link, copy or stream. Pure.

No finding here prevents an import: Airside copies a blob that it cannot link, and streams one that
it cannot copy. Both cost time and store the bytes twice.
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
        f"content_sharing_policy is {runtime.policy or 'unknown'}: every blob is streamed "
        "to containerd and stored twice",
        f"set {_SHARED} in its configuration and restart containerd",
    )


def _way(runtime: Runtime, facts: Facts) -> Finding:
    trial, root = runtime.trial, runtime.content_root
    if runtime.root_sight == "forbidden":
        return _link_finding(
            runtime,
            "note",
            f"this user cannot access the content directory {root}: linking blobs into it was not "
            "tested",
            "run the doctor as root",
        )
    if runtime.root_sight == "absent":
        where = ", which has its own mount namespace" * runtime.other_mounts
        return _link_finding(
            runtime,
            "warning",
            f"the content directory {root or '(unknown)'} is not visible here: the path is that of "
            f"containerd{where}; every blob is streamed",
            "run the agent where that path is the same directory (in a container: mount it at the "
            "same path)",
        )
    if trial is None:
        return _link_finding(
            runtime,
            "note",
            "linking was not tested: the data directory does not exist yet, or this user cannot "
            "write to it",
            "run the doctor again, as root, after the agent has started",
        )
    return _tried(runtime, trial, facts)


def _tried(runtime: Runtime, trial: Trial, facts: Facts) -> Finding:
    data, root = facts.settings.data, runtime.content_root
    if trial.error:
        return _link_finding(
            runtime,
            "problem",
            f"linking could not be tested: {trial.error}",
            "check free space, permissions, and for a read-only file system",
        )
    if not trial.adopted:
        if runtime.policy == "isolated":
            return _link_finding(
                runtime, "note", "containerd adopts no file: its policy is isolated"
            )
        return _link_finding(
            runtime,
            "warning",
            f"containerd does not adopt a file in {root}: {trial.reason}; every blob is streamed",
            f"check that {root} is containerd's own directory, and set {_SHARED}",
        )
    if trial.way == "copy":
        near = PurePath(root).parents[1] if len(PurePath(root).parents) > 1 else PurePath(root)
        return _link_finding(
            runtime,
            "warning",
            f"a file of {data} cannot be linked into {root} ({trial.no_link}): blobs are copied "
            "and stored twice",
            f"move the data directory to the same mount, for example --data {near}/airside",
        )
    return _link_finding(runtime, "ok", f"a file of {data} was linked and adopted without a copy")


def _link_finding(runtime: Runtime, severity: Severity, found: str, advice: str = "") -> Finding:
    return Finding("containerd.link", severity, runtime.socket, found, advice)


def _collection(runtime: Runtime) -> Iterator[Finding]:
    """A name that is not a digest makes every collection of content fail."""
    trial = runtime.trial
    if runtime.foreign_names:
        yield Finding(
            "containerd.collection",
            "problem",
            runtime.socket,
            f"its blob directory has names that are not digests: {', '.join(runtime.foreign_names)}"
            "; its garbage collection fails and the disk fills up",
            f"remove them from {runtime.content_root}/blobs",
        )
    elif trial is not None and trial.adopted and trial.collected is False:
        yield Finding(
            "containerd.collection",
            "warning",
            runtime.socket,
            "it did not delete the file of a removed blob (Airside deleted it): its garbage "
            "collection fails",
            "search its log for `garbage collection failed`",
        )
    elif trial is not None and trial.collected:
        yield Finding("containerd.collection", "ok", runtime.socket, "its garbage collection works")


def _volume(runtime: Runtime, facts: Facts) -> Iterator[Finding]:
    volume, root = runtime.volume, runtime.content_root
    if volume is None:
        return
    store = facts.store.volume if facts.store is not None else None
    if store is not None and store.point == volume.point:
        return  # reported for the data directory
    free = volume.free_bytes / max(volume.total_bytes, 1)
    free_text = (
        f"{volume.free_bytes // 1_000_000} MB of {volume.total_bytes // 1_000_000} MB are free"
    )
    if free < _KUBELET_SHARE:
        yield Finding(
            "containerd.space",
            "warning",
            root,
            f"only {free_text}: below 15 %, kubelet deletes images that are not pinned",
            "free space",
        )
    else:
        yield Finding("containerd.space", "ok", root, free_text)
    yield from judge_inodes("containerd.inodes", root, volume)


def _labels(runtime: Runtime, facts: Facts) -> Iterator[Finding]:
    """A hard link has the label of our file, which containerd must be allowed to read."""
    host, store = facts.host, facts.store
    if host is None or store is None or host.selinux == "off":
        return
    if not runtime.label or not store.label:
        return
    ours, its = _type(store.label), _type(runtime.label)
    subject = runtime.socket
    if ours == its:
        yield Finding(
            "containerd.selinux", "ok", subject, f"the data directory has the same type, {its}"
        )
        return
    yield Finding(
        "containerd.selinux",
        "warning" if host.selinux == "enforcing" else "note",
        subject,
        f"SELinux is {host.selinux}; files of the data directory have type {ours}, those of "
        f"containerd {its}: containerd may be denied reading linked blobs",
        f"semanage fcontext -a -t {its} '{store.path}(/.*)?' && restorecon -R {store.path}",
    )


def _type(label: str) -> str:
    parts = label.split(":")
    return parts[2] if len(parts) > 2 else label
