"""Every judgement of the doctor, both ways: what is well, and what is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airside.containerd.kubelet_pulls import DEFAULT_POLICY, KubeletPulls, PullPolicy
from airside.containerd.kubelet_space import KubeletSpace
from airside.containerd.pull_records import PullRecord
from airside.core.settings import Settings, WatchedDirectory
from airside.core.upstream_config import Upstream
from airside.diagnostics.doctor.facts import (
    Agent,
    Cri,
    Directory,
    Erofs,
    Facts,
    Gunzip,
    Host,
    Inotify,
    Kubelet,
    Mirror,
    Published,
    Reach,
    Runtime,
    Store,
    Trial,
    Unpublished,
    Unseen,
    Volume,
)
from airside.diagnostics.doctor.finding import SEVERITIES, Finding, is_healthy
from airside.diagnostics.doctor.judge import judge
from airside.oci.digest import parse_digest
from airside.oci.reference import parse_reference

DATA = Path("/data")
IMAGES = Path("/images")
SOCKET = "/run/containerd/containerd.sock"
PAUSE = "registry.k8s.io/pause:3.8"
GB = 10**9
NOW = 1_800_000_000.0
URL = "http://127.0.0.1:5050"

DISK = Volume(
    "ext4", "/", total_bytes=100 * GB, free_bytes=50 * GB, inodes=10**6, free_inodes=10**6
)
OTHER_DISK = replace(DISK, point="/var")
CRI = Cri(discard=False, sandbox=PAUSE, sandbox_present=True, sandbox_pinned=True)
RUNTIME = Runtime(
    SOCKET,
    "containerd",
    named=False,
    state="answers",
    version="1.7.24",
    numbers=(1, 7, 24),
    policy="shared",
    content_root="/var/lib/containerd/io.containerd.content.v1.content",
    snapshotter="overlayfs",
    has_cri=True,
    cri=CRI,
    gunzip=Gunzip("/usr/bin/unpigz", ("unpigz",)),
    trial=Trial("link", adopted=True, collected=True),
    volume=OTHER_DISK,
)
AGENT = Agent("running", pid=7, uid=0, listen="127.0.0.1:5050", answer=200)
STORE = Store(DATA, exists=True, writable=True, format=1, newest_format=1, volume=DISK)
DIRECTORY = Directory(IMAGES, "visible", is_directory=True, readable=True, writable=True)
HOST = Host(
    uid=0,
    now=NOW,
    synchronized=True,
    inotify=Inotify(0, 1000, 100, 10, 2),
    open_files=65536,
    open_files_of="the agent",
    has_overlay=True,
)
KUBELET = Kubelet(present=True, read=("/var/lib/kubelet/config.yaml",), has_api_server=True)
MIRROR = Mirror(SOCKET, URL, "airside mirror write --all", asked=("_default",))
WELL = Facts(
    settings=Settings(data=DATA, images=(WatchedDirectory(IMAGES),)),
    agent=AGENT,
    store=STORE,
    host=HOST,
    kubelet=KUBELET,
    directories=(DIRECTORY,),
    runtimes=(RUNTIME,),
    mirrors=(MIRROR,),
)


def found(facts: Facts, identity: str) -> Finding:
    """The one finding of this id."""
    [finding] = [f for f in judge(facts) if f.id == identity]
    return finding


def runtime(**changes: object) -> Facts:
    return replace(WELL, runtimes=(replace(RUNTIME, **changes),))


def cri(**changes: object) -> Facts:
    return runtime(cri=replace(CRI, **changes))


def host(**changes: object) -> Facts:
    return replace(WELL, host=replace(HOST, **changes))


def store(**changes: object) -> Facts:
    return replace(WELL, store=replace(STORE, **changes))


def disk(**changes: object) -> Facts:
    return store(volume=replace(DISK, **changes))


def agent(**changes: object) -> Facts:
    return replace(WELL, agent=replace(AGENT, **changes))


def directory(**changes: object) -> Facts:
    return replace(WELL, directories=(replace(DIRECTORY, **changes),))


def kubelet(**changes: object) -> Facts:
    return replace(WELL, kubelet=replace(KUBELET, **changes))


def pulls(policy: str = "NeverVerifyPreloadedImages", **changes: Any) -> KubeletPulls:
    file = None if policy == DEFAULT_POLICY else Path("/k.yaml")
    return KubeletPulls(PullPolicy(policy, (), file), is_kept=True, **changes)


def unmirrored(policy: str) -> Facts:
    return replace(kubelet(pulls=pulls(policy)), mirrors=())


def mirror(**changes: object) -> Facts:
    return replace(WELL, mirrors=(replace(MIRROR, **changes),))


def settings(**changes: object) -> Facts:
    return replace(WELL, settings=replace(WELL.settings, **changes))


def labels(ours: str, its: str, mode: str = "enforcing") -> Facts:
    facts = host(selinux=mode)
    label = "system_u:object_r:{}:s0".format
    return replace(
        facts,
        store=replace(STORE, label=label(ours)),
        runtimes=(replace(RUNTIME, label=label(its)),),
    )


def without_agent(facts: Facts, state: str = "absent") -> Facts:
    return replace(facts, agent=Agent(state))


def test_a_host_that_is_well_has_only_ok_findings():
    findings = judge(WELL)
    assert {f.severity for f in findings} == {"ok"}
    assert not any(f.advice for f in findings)
    assert {
        *(
            "agent",
            "registry",
            "registry.read-through",
            "data.directory",
            "data.file-system",
            "data.space",
            "data.inodes",
        ),
        *("images.directory", "containerd.socket", "containerd.version", "containerd.cri"),
        *("containerd.discard", "containerd.sandbox", "containerd.snapshotter"),
        *("containerd.gunzip", "containerd.sharing", "containerd.link", "containerd.collection"),
        *(
            "containerd.space",
            "containerd.inodes",
            "containerd.mirror",
            "containerd.miss",
            "kubelet.credentials",
        ),
        *("kubelet.always-pull", "host.clock", "host.inotify-watches", "host.inotify-instances"),
        *("host.open-files", "host.selinux", "host.overlayfs"),
    } == {f.id for f in findings}


CASES = [
    # the agent and its registry
    (without_agent(WELL), "agent", "note", "airside run --data /data"),
    (without_agent(WELL, "forbidden"), "agent", "note", "root may not either"),
    (without_agent(WELL, "silent"), "agent", "problem", "restart"),
    (agent(archives={"imported": 2, "rejected": 1}), "archives", "warning", "airside archives"),
    (agent(archives={"imported": 2}), "archives", "ok", ""),
    (agent(listen=""), "registry", "note", "listen"),
    (agent(answer=None, answer_reason="refused"), "registry", "problem", "address"),
    (agent(answer=404), "registry", "problem", "address"),
    (agent(listen="0.0.0.0:5050"), "registry", "warning", "tls_cert"),
    (agent(listen="0.0.0.0:5050", has_tls=True), "registry", "note", "htpasswd"),
    (agent(listen="0.0.0.0:5050", has_tls=True, is_open=False), "registry", "ok", ""),
    (agent(answer=401, is_open=False), "registry", "ok", ""),
    (agent(fallback="running"), "agent.fallback", "ok", ""),
    (agent(fallback="failed", fallback_reason="exit code 2"), "agent.fallback", "problem", "log"),
    (agent(published=(Published(SOCKET, connected=True),)), "agent.runtime", "ok", ""),
    (
        agent(published=(Published(SOCKET, connected=False, reason="refused"),)),
        "agent.runtime",
        "problem",
        "by itself",
    ),
    (
        replace(
            agent(published=(Published(SOCKET, connected=True, streams_because="isolated"),)),
            runtimes=(replace(RUNTIME, policy="isolated"),),
        ),
        "agent.runtime",
        "warning",
        "containerd.link",
    ),
    (
        agent(published=(Published(SOCKET, connected=True, streams_because="isolated"),)),
        "agent.runtime",
        "warning",
        "restart the agent: ",
    ),
    # the data directory
    (store(writable=False), "data.directory", "note", ""),
    (without_agent(store(writable=False)), "data.directory", "problem", "--data"),
    (
        without_agent(store(writable=False, exists=False)),
        "data.directory",
        "problem",
        "--data",
    ),
    (store(reason="permission denied"), "data.directory", "note", "root may not either"),
    (store(format=9), "data.directory", "problem", "newer"),
    (store(quarantined=1, lost=2), "data.blobs", "problem", "airside verify --repair"),
    (store(mode=0o777), "data.directory", "warning", "chmod o-rwx /data"),
    (store(mode=0o755), "data.directory", "warning", "chmod o-rwx /data"),
    (without_agent(store(exists=False)), "data.directory", "note", ""),
    (without_agent(store(holder=9)), "data.lock", "warning", "process 9"),
    (disk(is_read_only=True), "data.file-system", "problem", "writable"),
    (disk(kind="nfs4", is_remote=True), "data.file-system", "problem", "local disk"),
    (disk(kind="tmpfs"), "data.file-system", "warning", "disk"),
    (disk(kind="overlay"), "data.file-system", "warning", "mount"),
    (disk(free_bytes=10**8), "data.space", "problem", "airside gc"),
    (disk(free_bytes=9 * GB), "data.space", "warning", "airside gc"),
    (disk(free_inodes=100), "data.inodes", "problem", "delete"),
    (disk(free_inodes=50_000), "data.inodes", "warning", "delete"),
    # watched directories
    (directory(sight="absent"), "images.directory", "warning", "mkdir -p /images"),
    (
        without_agent(directory(sight="absent", is_default=True)),
        "images.directory",
        "note",
        "the agent creates it",
    ),
    (directory(is_directory=False), "images.directory", "problem", "directory"),
    (directory(readable=False), "images.directory", "note", ""),
    (directory(sight="forbidden"), "images.directory", "note", ""),
    (without_agent(directory(readable=False)), "images.directory", "problem", "readable"),
    (directory(writable=False), "images.writable", "note", "chgrp"),
    (directory(importer="K3s"), "images.shared", "warning", "of your own"),
    (
        replace(
            directory(takes_from_others=True),
            settings=Settings(data=DATA, images=(WatchedDirectory(IMAGES, links="any"),)),
        ),
        "images.links",
        "warning",
        'links = "owner"',
    ),
    (
        directory(volume=replace(DISK, kind="nfs4", is_remote=True)),
        "images.directory",
        "note",
        "local disk",
    ),
    (directory(volume=replace(DISK, kind="overlay")), "images.directory", "note", ""),
    (agent(modes={"/images": ("polling", "no watch left")}), "images.directory", "note", ""),
    (agent(modes={"/images": ("absent", "gone")}), "images.directory", "warning", "looks again"),
    (
        replace(directory(volume=replace(DISK, kind="nfs4", is_remote=True)), agent=None),
        "images.directory",
        "note",
        "local disk",
    ),
    # containerd's socket
    (
        replace(settings(runtime=("none",)), runtimes=()),
        "containerd",
        "note",
        "docker pull 127.0.0.1:5050/NAME",
    ),
    (replace(WELL, runtimes=()), "containerd", "note", "airside explain"),
    (
        without_agent(replace(settings(listen=""), runtimes=())),
        "containerd",
        "warning",
        "set listen",
    ),
    (runtime(state="absent", named=True), "containerd.socket", "problem", "--runtime"),
    (runtime(state="refused"), "containerd.socket", "problem", "start containerd"),
    (runtime(state="silent"), "containerd.socket", "problem", "restart it"),
    (runtime(state="no-socket"), "containerd.socket", "problem", "--runtime"),
    (runtime(state="not-containerd"), "containerd.socket", "problem", "docker.sock"),
    (runtime(state="forbidden"), "containerd.socket", "note", "root may not either"),
    (without_agent(runtime(state="forbidden")), "containerd.socket", "warning", "as root"),
    (
        without_agent(runtime(state="forbidden", named=True)),
        "containerd.socket",
        "problem",
        "as root",
    ),
    # what it is
    (runtime(reason="CRI: too slow"), "containerd.seen", "warning", "again"),
    (runtime(numbers=(1, 5, 9)), "containerd.version", "warning", "upgrade"),
    (runtime(numbers=(1, 6, 21)), "containerd.version", "warning", "1.6.22"),
    (runtime(numbers=(1, 7, 2)), "containerd.version", "warning", "1.7.3"),
    (runtime(numbers=(1, 6, 24)), "containerd.version", "note", "1.6.25"),
    (runtime(numbers=(1, 7, 9)), "containerd.version", "note", "1.7.10"),
    (runtime(numbers=(1, 6, 25)), "containerd.version", "ok", ""),
    (runtime(numbers=(1, 7, 10)), "containerd.version", "ok", ""),
    (runtime(numbers=(2, 1, 9)), "containerd.version", "ok", ""),
    (runtime(has_cri=False, cri=None), "containerd.cri", "warning", "disabled_plugins"),
    (
        replace(runtime(has_cri=False, cri=None), kubelet=Kubelet()),
        "containerd.cri",
        "note",
        "disabled_plugins",
    ),
    (cri(not_ready="RuntimeReady is false: x"), "containerd.cri", "warning", "log"),
    (settings(namespace="default"), "containerd.cri", "warning", "k8s.io"),
    (cri(discard=True), "containerd.discard", "warning", "= false"),
    (cri(discard=None), "containerd.discard", "note", ""),
    (cri(sandbox_present=False), "containerd.sandbox", "problem", PAUSE),
    (
        replace(cri(sandbox_present=False), kubelet=Kubelet()),
        "containerd.sandbox",
        "note",
        PAUSE,
    ),
    (
        cri(sandbox_present=False, sandbox_held=True),
        "containerd.sandbox",
        "warning",
        "start the agent",
    ),
    (cri(sandbox_pinned=False), "containerd.sandbox", "warning", "drop"),
    (
        runtime(numbers=(1, 6, 20), cri=replace(CRI, sandbox_pinned=False)),
        "containerd.sandbox",
        "ok",
        "",
    ),
    (cri(sandbox=""), "containerd.sandbox", "note", "archives"),
    (cri(sandbox_present=None), "containerd.sandbox", "note", "archives"),
    (runtime(snapshotter_error="skipped"), "containerd.snapshotter", "problem", "log"),
    (
        replace(
            runtime(snapshotter="zfs", snapshotter_error="no such plugin"),
            settings=replace(WELL.settings, snapshotter="zfs"),
        ),
        "containerd.snapshotter",
        "problem",
        "setting snapshotter",
    ),
    (
        runtime(snapshotter="stargz", unpacks_here=False),
        "containerd.snapshotter",
        "note",
        "",
    ),
    (runtime(erofs=Erofs()), "containerd.erofs", "ok", ""),
    (runtime(erofs=Erofs("modprobe erofs")), "containerd.erofs", "ok", ""),
    (runtime(erofs=Erofs(), snapshotter="erofs"), "containerd.erofs", "ok", ""),
    (
        runtime(erofs=Erofs("", "no mkfs.erofs"), snapshotter="erofs"),
        "containerd.erofs",
        "problem",
        "erofs-utils",
    ),
    (
        runtime(erofs=Erofs(why_no_index="too old"), snapshotter="erofs"),
        "containerd.erofs",
        "warning",
        "erofs-utils",
    ),
    (runtime(gunzip=Gunzip("", ("igzip", "unpigz"))), "containerd.gunzip", "note", "isal"),
    (runtime(gunzip=Gunzip("", ("unpigz",))), "containerd.gunzip", "note", "pigz"),
    # adoption
    (runtime(policy="isolated"), "containerd.sharing", "warning", '"shared"'),
    (runtime(root_sight="forbidden", trial=None), "containerd.link", "note", "root may not either"),
    (runtime(root_sight="absent", trial=None), "containerd.link", "warning", "same path"),
    (runtime(trial=None), "containerd.link", "note", "after the agent"),
    (runtime(trial=Trial(error="/x: Read-only")), "containerd.link", "problem", "read-only"),
    (
        runtime(trial=Trial("link", reason="offset 0")),
        "containerd.link",
        "warning",
        "own directory",
    ),
    (
        runtime(policy="isolated", trial=Trial("link", reason="offset 0")),
        "containerd.link",
        "note",
        "",
    ),
    (
        runtime(trial=Trial("copy", "Invalid cross-device link", adopted=True)),
        "containerd.link",
        "warning",
        "--data /var/lib/airside",
    ),
    (
        runtime(foreign_names=("sha256/.tmp-1",)),
        "containerd.collection",
        "problem",
        "remove them",
    ),
    (
        runtime(trial=Trial("link", adopted=True, collected=False)),
        "containerd.collection",
        "warning",
        "garbage collection failed",
    ),
    (
        runtime(volume=replace(OTHER_DISK, free_bytes=14 * GB)),
        "containerd.space",
        "warning",
        "free space",
    ),
    (
        runtime(volume=replace(OTHER_DISK, free_inodes=1)),
        "containerd.inodes",
        "problem",
        "delete",
    ),
    (labels("var_t", "var_t"), "containerd.selinux", "ok", ""),
    (labels("default_t", "container_var_lib_t"), "containerd.selinux", "warning", "semanage"),
    (
        labels("default_t", "container_var_lib_t", "permissive"),
        "containerd.selinux",
        "note",
        "restorecon",
    ),
    # kubelet and mirrors
    (unmirrored("AlwaysVerify"), "kubelet.credentials", "warning", "airside mirror"),
    (
        unmirrored("NeverVerifyAllowlistedImages"),
        "kubelet.credentials",
        "warning",
        "preloadedImagesVerificationAllowlist; or let containerd ask Airside",
    ),
    (unmirrored("NeverVerify"), "kubelet.credentials", "ok", ""),
    (kubelet(pulls=pulls("AlwaysVerify")), "kubelet.credentials", "ok", ""),
    (
        kubelet(pulls=replace(pulls(), unread=Path("/m"))),
        "kubelet.credentials",
        "note",
        "root may not either",
    ),
    (kubelet(pulls=pulls()), "kubelet.pull-records", "ok", ""),
    (kubelet(unread=("/k.yaml",)), "kubelet.credentials", "note", "root may not either"),
    (replace(WELL, kubelet=Kubelet()), "kubelet.credentials", "note", ""),
    (kubelet(always_pull=("/a.yaml",)), "kubelet.always-pull", "ok", ""),
    (
        replace(kubelet(always_pull=("/a.yaml",)), mirrors=()),
        "kubelet.always-pull",
        "warning",
        "airside mirror",
    ),
    (kubelet(space=KubeletSpace()), "kubelet.space", "ok", ""),
    (kubelet(space=KubeletSpace(evicts_percent=99.0)), "kubelet.space", "warning", "gc --dry-run"),
    (
        replace(
            kubelet(space=KubeletSpace(15.0, 10.0, is_found=True)),
            settings=replace(WELL.settings, low_space_percent="15"),
        ),
        "kubelet.space",
        "warning",
        "low_space_percent",
    ),
    (kubelet(has_api_server=False), "kubelet.always-pull", "note", "admission-plugins"),
    (mirror(asked=(), lacking=("_default",)), "containerd.mirror", "warning", "airside mirror"),
    (
        mirror(asked=("docker.io",), lacking=("_default",)),
        "containerd.mirror",
        "note",
        "airside mirror",
    ),
    (mirror(warning="no config_path"), "containerd.mirror", "warning", "no config_path"),
    (
        mirror(url="http://10.0.0.1:5050", proxies={"HTTP_PROXY": "http://p"}),
        "containerd.mirror",
        "warning",
        "add 10.0.0.1 to NO_PROXY",
    ),
    (mirror(reason="permission denied"), "containerd.mirror", "note", "root may not either"),
    # the host
    (host(uid=1000), "doctor.user", "note", "root"),
    (host(now=0.0), "host.clock", "problem", "set the clock"),
    (host(now=1e12), "host.clock", "problem", "set the clock"),
    (store(newest_at=NOW + 3600), "host.clock", "warning", "set the clock"),
    (store(newest_at=NOW + 1), "host.clock", "ok", ""),
    (host(synchronized=False), "host.clock", "note", "NTP"),
    (host(synchronized=None), "host.clock", "ok", ""),
    (
        host(inotify=Inotify(0, 1000, 100, 800, 2)),
        "host.inotify-watches",
        "warning",
        "fs.inotify.max_user_watches=4000",
    ),
    (
        host(inotify=Inotify(0, 1000, 100, 8, 100)),
        "host.inotify-instances",
        "warning",
        "fs.inotify.max_user_instances",
    ),
    (host(open_files=256), "host.open-files", "warning", "LimitNOFILE"),
    (host(has_overlay=False), "host.overlayfs", "warning", "modprobe"),
    (
        replace(WELL, unseen=(Unseen("the host", "it takes too long"),)),
        "doctor.unseen",
        "warning",
        "",
    ),
]


@pytest.mark.parametrize(
    ("facts", "identity", "severity", "advice"),
    CASES,
    ids=[
        f"{number}-{identity}-{severity}" for number, (_, identity, severity, _) in enumerate(CASES)
    ],
)
def test_each_trouble_is_told_with_what_to_do(facts, identity, severity, advice):
    finding = found(facts, identity)
    assert finding.severity == severity
    assert advice in finding.advice
    assert bool(finding.advice) >= bool(advice)
    assert finding.found


@pytest.mark.parametrize(
    ("facts", "identity"),
    [
        (agent(archives={}), "archives"),
        (agent(archives={"ignored": 3}), "archives"),
        (store(holder=7), "data.lock"),
        (disk(inodes=0, free_inodes=0), "data.inodes"),
        (runtime(cri=None, reason="CRI: too slow"), "containerd.sandbox"),
        (runtime(gunzip=None), "containerd.gunzip"),
        (runtime(trial=Trial("link", adopted=True)), "containerd.collection"),
        (runtime(volume=DISK), "containerd.space"),
        (runtime(volume=None), "containerd.space"),
        (store(volume=None), "data.space"),
        (replace(labels("a_t", "b_t"), store=STORE), "containerd.selinux"),
        (runtime(state="silent"), "containerd.link"),
        (runtime(label="a:b:c"), "containerd.selinux"),
        (host(inotify=None), "host.inotify-watches"),
        (host(open_files=None), "host.open-files"),
        (host(has_overlay=None), "host.overlayfs"),
        (runtime(snapshotter="native"), "host.overlayfs"),
        (replace(WELL, runtimes=()), "containerd.mirror"),
        (replace(WELL, runtimes=()), "host.selinux"),
        (runtime(has_cri=False, cri=None), "kubelet.credentials"),
    ],
)
def test_nothing_is_told_of_what_is_not_known_or_does_not_matter(facts, identity):
    assert identity not in {f.id for f in judge(facts)}


def test_parts_that_could_not_be_looked_at_are_left_out():
    nothing = Facts(WELL.settings, None, None, None, None, unseen=(Unseen("all", "too long"),))
    assert [(f.id, f.severity) for f in judge(nothing)] == [
        ("doctor.unseen", "warning"),
        ("containerd", "note"),
    ]


def test_what_is_open_here_and_needs_a_secret_elsewhere_is_told():
    def told(identity, **changes):
        [found] = [f for f in judge(settings(**changes)) if f.id == identity]
        return found.severity, found.found + found.advice

    for value in ("true", "digests", "self"):
        severity, text = told("registry.read-through", read_through=value)
        assert (severity, "without a login" in text) == ("warning", True)
    assert "access rules" in told("registry.read-through", read_through="true", access="/a")[1]
    for value in ("open", "false"):
        assert told("registry.read-through", read_through=value)[0] == "ok"
    upstream = (Upstream("site.example", "https://site.example", credentials=Path("/secret")),)
    severity, text = told("registry.upstream", upstream=upstream)
    assert (severity, "site.example" in text) == ("warning", True)
    assert told("registry.upstream", upstream=upstream, anonymous="pull")[0] == "warning"
    for closed in ({"htpasswd": "/h"}, {"access": "/a"}, {"anonymous": "none"}):
        assert told("registry.upstream", upstream=upstream, **closed)[0] == "ok"
    quiet = settings(upstream=(Upstream("site.example", "https://site.example"),))
    assert "registry.upstream" not in {f.id for f in judge(quiet)}


def test_the_unreadable_file_is_named():
    assert (
        "/etc/containerd/config.toml"
        in found(
            cri(discard=None, unread="/etc/containerd/config.toml"), "containerd.discard"
        ).found
    )
    assert "/etc/x" in found(cri(sandbox="", unread="/etc/x"), "containerd.sandbox").found


def test_what_erofs_lacks_is_told_where_it_is_not_in_use():
    assert "could be" in found(runtime(erofs=Erofs()), "containerd.erofs").found
    for erofs in (Erofs("lacking"), Erofs("", "lacking"), Erofs("", "", "lacking")):
        assert "lacking" in found(runtime(erofs=erofs), "containerd.erofs").found


def test_unpacking_is_told_as_the_settings_have_it():
    assert "at import" in found(WELL, "containerd.snapshotter").found
    never = found(settings(unpack="never"), "containerd.snapshotter")
    assert "first container" in never.found


def test_the_worst_comes_first():
    facts = replace(cri(discard=True), host=replace(HOST, now=0.0, synchronized=False))
    ranks = [SEVERITIES.index(f.severity) for f in judge(facts)]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) > 2


def test_only_problems_are_unhealthy_and_warnings_where_strict():
    note, warning, problem = (Finding("x", s, "", "y") for s in ("note", "warning", "problem"))
    assert is_healthy([note, warning], strict=False)
    assert is_healthy([note], strict=True)
    assert not is_healthy([note, warning], strict=True)
    assert not is_healthy([problem], strict=False)


LACKED = Unpublished("docker.io/library/app:1", SOCKET, "failed", "a layer is wrong", "2027-01-15")


@pytest.mark.parametrize(
    ("state", "severity"),
    [("failed", "problem"), ("waiting", "warning"), ("incomplete", "warning")],
)
def test_an_image_that_containerd_lacks_is_named_with_reason_and_next_try(
    state: str, severity: str
) -> None:
    lacked = replace(LACKED, state=state)
    finding = found(agent(unpublished=(lacked,), unpublished_count=1), "agent.unpublished")
    assert (finding.severity, finding.subject) == (severity, SOCKET)
    for text in (lacked.reference, state, lacked.reason, lacked.next_try_at):
        assert text in finding.found
    assert finding.advice


def test_of_many_images_that_containerd_lacks_the_number_is_reported() -> None:
    images = tuple(replace(LACKED, reference=f"docker.io/library/app:{n}") for n in range(20))
    facts = agent(unpublished=images, unpublished_count=300)
    findings = [f for f in judge(facts) if f.id == "agent.unpublished"]
    assert len(findings) == 6
    assert "295 more" in " ".join(f.found for f in findings)


def test_an_agent_that_runs_is_not_to_be_started_for_the_sandbox_image() -> None:
    facts = cri(sandbox_present=False, sandbox_held=True)
    lacked = replace(LACKED, reference=PAUSE, state="waiting", reason="removed again")
    facts = replace(
        facts,
        agent=replace(AGENT, published=(Published(SOCKET, connected=True),), unpublished=(lacked,)),
    )
    finding = found(facts, "containerd.sandbox")
    assert "start the agent" not in finding.advice
    assert "removed again" in finding.found
    assert "next try at 2027-01-15" in finding.found
    assert facts.agent is not None
    nothing = replace(facts, agent=replace(facts.agent, unpublished=()))
    assert "next pass" in found(nothing, "containerd.sandbox").found
    elsewhere = replace(facts, agent=replace(AGENT, published=()))
    assert SOCKET in found(elsewhere, "containerd.sandbox").advice
    absent = replace(facts, agent=Agent("absent"))
    assert "start the agent" in found(absent, "containerd.sandbox").advice


# kubelet's pull records


ID = "sha256:" + "a" * 64
APP = parse_reference("registry.example/app:1")
RECORD = Path("/var/lib/kubelet/image_manager/pulled/sha256-1")
INTENT = Path("/var/lib/kubelet/image_manager/pulling/sha256-2")


def recorded(kind: str, *, mirrored: bool) -> Facts:
    """A node that has an image which Airside has too, and a record of kubelet about it."""
    secret = frozenset({APP.repository} if kind == "secret" else ())
    records = {parse_digest(ID): ((RECORD, PullRecord(parse_digest(ID), frozenset(), secret)),)}
    found = pulls(intents={APP: INTENT}) if kind == "intent" else pulls(records=records)
    cri = replace(CRI, images=((ID, (str(APP), "registry.example/other:1")),))
    return replace(
        kubelet(pulls=found),
        runtimes=(replace(RUNTIME, cri=cri),),
        names=frozenset({str(APP)}),
        mirrors=(MIRROR,) if mirrored else (),
    )


@pytest.mark.parametrize(
    ("kind", "word", "file"),
    [
        ("record", "no credentials for this name", RECORD),
        ("secret", "pods without that secret", RECORD),
        ("intent", "if kubelet restarts", INTENT),
    ],
)
def test_an_image_that_kubelet_asks_for_because_of_a_record_is_named(
    kind: str, word: str, file: Path
) -> None:
    found = {each.id: each for each in judge(recorded(kind, mirrored=False))}[
        "kubelet.pull-records"
    ]
    assert (found.severity, found.subject) == ("warning", str(file.parent))
    assert f"{APP}, which the node has: " in found.found
    assert "other" not in found.found
    assert word in found.found
    assert "airside mirror write --all" in found.advice
    assert f"stop kubelet, delete {file}, and start it" in found.advice
    found = {each.id: each for each in judge(recorded(kind, mirrored=True))}["kubelet.pull-records"]
    assert (found.severity, found.advice) == ("ok", "")


def test_an_allowlist_with_all_images_is_well() -> None:
    cri = replace(CRI, images=((ID, (str(APP),)),))
    policy = PullPolicy("NeverVerifyAllowlistedImages", ("registry.example/*",), Path("/k.yaml"))
    facts = replace(
        kubelet(pulls=KubeletPulls(policy, is_kept=True)),
        runtimes=(replace(RUNTIME, cri=cri),),
        names=frozenset({str(APP)}),
        mirrors=(),
    )
    assert _severity(facts) == "ok"
    other = PullPolicy(policy.name, ("registry.example/team/*",), policy.file)
    facts = replace(facts, kubelet=replace(KUBELET, pulls=KubeletPulls(other, is_kept=True)))
    assert _severity(facts) == "warning"


def _severity(facts: Facts) -> str:
    return {each.id: each.severity for each in judge(facts)}["kubelet.credentials"]


HUB = "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("then", "reached", "severity", "word"),
    [
        ((), {}, "ok", "nothing else is asked"),
        ((HUB,), {HUB: Reach(0.02)}, "ok", f"{HUB} is reached in 0.02 s"),
        ((HUB,), {HUB: Reach(0.3, "refused")}, "ok", "fails after 0.30 s (refused)"),
        ((HUB,), {HUB: Reach(None)}, "warning", "does not answer within 4 s"),
        (("https://a", HUB), {"https://a": Reach(3), HUB: Reach(None)}, "warning", "takes 7 s and"),
        ((HUB,), {HUB: Reach(1.5, "no address")}, "warning", "takes 2 s and more"),
    ],
)
def test_what_a_missing_image_costs_is_told(
    then: tuple[str, ...], reached: dict[str, Reach], severity: str, word: str
) -> None:
    facts = replace(
        mirror(then={"docker.io": then}), reached=reached, agent=replace(AGENT, miss_seconds=0.003)
    )
    found = {each.id: each for each in judge(facts)}["containerd.miss"]
    assert found.severity == severity
    assert word in found.found
    assert "Airside says so after 3 ms" in found.found
    assert (f"{MIRROR.command} --only" in found.advice) is (severity == "warning")


def test_a_miss_is_not_told_of_settings_that_are_not_in_use() -> None:
    for facts in (mirror(asked=()), mirror(warning="no config_path")):
        assert "containerd.miss" not in {each.id for each in judge(facts)}


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (Agent("absent"), "start the agent"),
        (replace(AGENT, is_open=False), 'anonymous = "pull"'),
        (replace(AGENT, answer=None), "see the finding registry"),
    ],
)
def test_a_mirror_that_does_not_answer_is_no_remedy(state: Agent, word: str) -> None:
    for facts, identity in (
        (recorded("record", mirrored=True), "kubelet.pull-records"),
        (kubelet(pulls=pulls("AlwaysVerify")), "kubelet.credentials"),
        (kubelet(always_pull=("/a.yaml",)), "kubelet.always-pull"),
    ):
        found = {each.id: each for each in judge(replace(facts, agent=state))}[identity]
        assert found.severity == "warning"
        assert word in found.advice
        assert "mirror write" not in found.advice


def test_a_mirror_for_the_registry_of_the_image_is_enough() -> None:
    facts = recorded("record", mirrored=False)
    for asked, lacking, severity in (
        (("registry.example",), ("_default",), "ok"),
        (("_default",), ("quay.io",), "ok"),
        (("_default",), ("registry.example",), "warning"),
        (("docker.io",), ("_default",), "warning"),
    ):
        of_this = replace(facts, mirrors=(replace(MIRROR, asked=asked, lacking=lacking),))
        found = {each.id: each for each in judge(of_this)}["kubelet.pull-records"]
        assert found.severity == severity


def test_root_is_not_told_to_be_root() -> None:
    for facts in (mirror(reason="permission denied"), kubelet(unread=("/k.yaml",))):
        assert any("root may not either" in each.advice for each in judge(facts))
        assert not any("run the doctor as root" in each.advice for each in judge(facts))


@pytest.mark.parametrize(
    ("by", "why", "text"),
    [
        ("unit", "", "airside-layers@.service writes layers"),
        ("agent", "", "its own processes write layers"),
        ("", "unpack_by is containerd", "containerd unpacks: unpack_by is containerd"),
    ],
)
def test_who_writes_layers_is_told(by: str, why: str, text: str) -> None:
    published = Published(SOCKET, connected=True, applies_because=why, layers_written_by=by)
    facts = replace(WELL, agent=replace(AGENT, published=(published,)))
    [finding] = [each for each in judge(facts) if each.id == "agent.runtime"]
    assert finding.severity == "ok"
    assert text in finding.found


def test_an_archive_is_not_asked_for_that_airside_has() -> None:
    cri = replace(CRI, sandbox_pinned=False)
    facts = replace(WELL, runtimes=(replace(RUNTIME, cri=cri),))
    advice = {each.id: each.advice for each in judge(facts)}["containerd.sandbox"]
    assert "drop an archive" in advice
    facts = replace(facts, names=frozenset({PAUSE}))
    running = replace(AGENT, published=(Published(SOCKET, connected=True),))
    for state, word in ((running, "run the doctor again"), (Agent("absent"), "start the agent")):
        advice = {each.id: each.advice for each in judge(replace(facts, agent=state))}
        assert advice["containerd.sandbox"].startswith(word)


def test_no_advice_is_what_another_finding_shows_done() -> None:
    """With the mirror written, nothing tells to write it."""
    for facts in (WELL, kubelet(always_pull=("/a",)), kubelet(pulls=pulls("AlwaysVerify"))):
        findings = judge(replace(facts, kubelet=replace(facts.kubelet, has_api_server=False)))
        assert "containerd.mirror" in {each.id for each in findings if each.severity == "ok"}
        assert not [each for each in findings if "mirror write" in each.advice]
