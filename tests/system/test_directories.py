"""Sub-directories, layout directories, links and sticks that come and go, with the real agent."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time

import pytest

from support.agent import Agent
from support.images import oci_archive, oci_layout, random_image

pytestmark = pytest.mark.system


def _why_not_mount():
    """Why no file system can be mounted here; empty: one can."""
    if os.geteuid() != 0:
        return "mounting file systems needs root"
    with tempfile.TemporaryDirectory() as point:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "none", point], check=False, capture_output=True, timeout=30
        )
        if mounted.returncode:
            return f"no file system can be mounted: {mounted.stderr.decode().strip()}"
        subprocess.run(["umount", point], check=True, timeout=30)
    return ""


needs_mounts = pytest.mark.skipif(bool(_why_not_mount()), reason=_why_not_mount())


def start(tmp_path, *directories, **options):
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    return Agent(list(directories), tmp_path / "data", **options)


def archive(path, name, seed="app"):
    """An archive renamed into place, and its image."""
    image = random_image(seed)
    made = path.with_name(f".{path.name}")
    oci_archive(made, {name: image})
    made.replace(path)
    return image


def serves(agent, name, image):
    path, _, tag = name.removeprefix("docker.io/").partition(":")
    return agent.get(f"/v2/{path}/manifests/{tag}") == (200, image.manifest.raw)


# --- layout directories and links


def test_a_layout_directory_is_imported_replaced_and_removed(tmp_path):
    images = tmp_path / "images"
    with start(tmp_path, images) as agent:
        first, second = random_image("layout one"), random_image("layout two")
        oci_layout(tmp_path / "made", {"docker.io/layout/app:1": first})
        path = images / "team" / "app"
        path.parent.mkdir()
        shutil.copytree(tmp_path / "made", path)
        agent.wait_imported(path)
        assert agent.archives()[path]["compression"] == "directory"
        assert serves(agent, "docker.io/layout/app:1", first)
        oci_layout(tmp_path / "next", {"docker.io/layout/app:1": second})
        seen = agent.now()
        subprocess.run(
            ["rsync", "-ac", "--delete", f"{tmp_path}/next/", f"{path}/"], check=True, timeout=30
        )
        agent.wait_imported(path, after=seen)
        assert serves(agent, "docker.io/layout/app:1", second)
        assert set(agent.archives()) == {path}
        shutil.rmtree(path)
        agent.wait_state(path, "removed")
        assert serves(agent, "docker.io/layout/app:1", second)
        assert agent.complaints() == []


@pytest.mark.needs("skopeo")
def test_skopeo_writes_a_layout_into_the_watched_directory(tmp_path):
    images = tmp_path / "images"
    with start(tmp_path, images, environ={"AIRSIDE_QUIET_SECONDS": "1.0"}) as agent:
        archive(tmp_path / "from.tar", "docker.io/layout/skopeo:1", "skopeo")
        source = f"oci-archive:{tmp_path}/from.tar"
        target = f"oci:{images}/app:docker.io/layout/skopeo:1"
        subprocess.run(
            ["skopeo", "copy", "-q", "--insecure-policy", source, target],
            check=True,
            timeout=60,
        )
        agent.wait_imported(images / "app")
        made = json.loads((images / "app" / "index.json").read_bytes())["manifests"][0]["digest"]
        raw = (images / "app" / "blobs" / made.replace(":", "/")).read_bytes()
        assert agent.get("/v2/layout/skopeo/manifests/1") == (200, raw)
        assert set(agent.archives()) == {images / "app"}


def test_a_link_whose_target_is_replaced_brings_the_new_version(tmp_path):
    images, releases = tmp_path / "images", tmp_path / "releases"
    releases.mkdir()
    archive(releases / "v1.tar", "docker.io/linked/app:1", "v1")
    with start(tmp_path, images) as agent:
        (releases / "current.tar").symlink_to("v1.tar")
        (images / "app.tar").symlink_to(releases / "current.tar")
        agent.wait_imported(images / "app.tar")
        second = archive(releases / "v2.tar", "docker.io/linked/app:1", "v2")
        seen = agent.now()
        (releases / "next").symlink_to("v2.tar")
        (releases / "next").replace(releases / "current.tar")
        agent.wait_imported(images / "app.tar", after=seen)
        assert serves(agent, "docker.io/linked/app:1", second)


def test_directories_keep_their_own_policies_also_one_inside_the_other(tmp_path):
    """What lies in the inner directory goes by its settings: it alone deletes on removal."""
    outer = tmp_path / "images"
    inner = outer / "short-lived"
    config = tmp_path / "airside.toml"
    config.write_text(
        f'[[images]]\npath = "{outer}"\non_removal = "keep"\n'
        f'[[images]]\npath = "{inner}"\non_removal = "delete"\n'
    )
    (inner / "deep").mkdir(parents=True)
    agent = Agent([], tmp_path / "data", flags=["--config", str(config)])
    with agent:
        kept = archive(outer / "kept.tar", "docker.io/policy/kept:1", "kept")
        archive(inner / "deep" / "gone.tar", "docker.io/policy/gone:1", "gone")
        agent.wait_imported(outer / "kept.tar", inner / "deep" / "gone.tar")
        (outer / "kept.tar").unlink()
        (inner / "deep" / "gone.tar").unlink()
        agent.wait_state(outer / "kept.tar", "removed")
        agent.wait_for(lambda: "docker.io/policy/gone:1" not in agent.images())
        assert serves(agent, "docker.io/policy/kept:1", kept)


def test_a_restart_with_archives_at_every_depth_opens_none(tmp_path):
    images = tmp_path / "images"
    with start(tmp_path, images) as agent:
        paths = []
        for number in range(8):
            directory = images / f"{number % 3}" / f"{number % 4}"
            directory.mkdir(parents=True, exist_ok=True)
            paths.append(directory / f"{number}.tar")
            archive(paths[-1], f"docker.io/deep/app{number}:1", f"deep {number}")
        oci_layout(images / "layout", {"docker.io/deep/layout:1": random_image("deep layout")})
        paths.append(images / "layout")
        agent.wait_imported(*paths)
        agent.wait_idle()
        seen = agent.now()
        agent.restart()
        agent.wait_idle()
        assert agent.events(after=seen) == []
        assert {item["state"] for item in agent.archives().values()} == {"imported"}


# --- sticks: real file systems, mounted and unmounted


@pytest.fixture
def stick(tmp_path):
    """A stick with an ext4 file system; what is mounted at the end is unmounted."""
    with contextlib.closing(Stick(tmp_path)) as found:
        yield found


class Stick:
    def __init__(self, tmp_path):
        self.image = tmp_path / "stick.img"
        with self.image.open("wb") as file:
            file.truncate(96 << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))
        self.points = []

    def mount(self, point):
        point.mkdir(exist_ok=True)
        run("mount", "-o", "loop", str(self.image), str(point))
        self.points.append(point)

    def unmount(self, *options):
        run("umount", *options, str(self.points.pop()))

    @contextlib.contextmanager
    def elsewhere(self, tmp_path):
        """The stick in another computer."""
        self.mount(tmp_path / "elsewhere")
        yield tmp_path / "elsewhere"
        # An unmount writes nothing while a mount namespace that another test made still has it.
        run("sync", "--file-system", str(self.points[-1]))
        self.unmount()

    def close(self):
        while self.points:
            self.unmount("-l")


def run(*command):
    subprocess.run(command, check=True, timeout=60, capture_output=True)


def state_of(agent, directory):
    found = {item["path"]: item for item in agent.status()["directories"]}
    return found[str(directory)]


@needs_mounts
@pytest.mark.needs("mkfs.ext4")
def test_a_stick_comes_goes_and_comes_back_with_more(tmp_path, stick):
    point = tmp_path / "usb"
    name = "docker.io/stick/app:1"
    with stick.elsewhere(tmp_path) as directory:
        first = archive(directory / "a.tar", name, "stick")
    with start(tmp_path, point) as agent:
        agent.wait_idle()
        stick.mount(point)  # no event in the directory tells of it
        agent.wait_imported(point / "a.tar")
        assert serves(agent, name, first)
        stick.unmount()  # not busy
        agent.wait_for(lambda: state_of(agent, point)["mode"] == "absent")
        seen = agent.now()
        agent.wait_idle()
        assert agent.archives()[point / "a.tar"]["state"] == "imported"
        assert serves(agent, name, first)
        agent.restart()
        agent.wait_idle()
        assert agent.archives()[point / "a.tar"]["state"] == "imported"
        assert "not mounted" in state_of(agent, point)["reason"]
        with stick.elsewhere(tmp_path) as directory:
            second = archive(directory / "b.tar", "docker.io/stick/b:1", "more")
        stick.mount(point)
        agent.wait_imported(point / "b.tar")
        assert serves(agent, "docker.io/stick/b:1", second)
        assert agent.events(after=seen, path=point / "a.tar") == []
        (point / "a.tar").unlink()  # a real removal, on the mounted stick
        agent.wait_state(point / "a.tar", "removed")
        stick.unmount()
        assert all("is its file system mounted?" in text for text in agent.complaints())


@needs_mounts
def test_a_stick_below_a_watched_directory_takes_nothing_with_it(tmp_path, stick):
    """As automounters do it: the directory is made for the mount and removed after it."""
    media = tmp_path / "media"
    name = "docker.io/media/app:1"
    with stick.elsewhere(tmp_path) as directory:
        (directory / "set").mkdir()
        image = archive(directory / "set" / "a.tar", name, "media")
    with start(tmp_path, media) as agent:
        path = media / "STICK" / "set" / "a.tar"
        stick.mount(media / "STICK")
        agent.wait_imported(path)
        other = archive(media / "here.tar", "docker.io/media/here:1", "here")
        agent.wait_imported(media / "here.tar")
        stick.unmount()
        (media / "STICK").rmdir()
        (media / "here.tar").unlink()  # on the file system that stays: a real removal
        agent.wait_state(media / "here.tar", "removed")
        for _ in range(2):
            agent.wait_idle()
            assert agent.archives()[path]["state"] == "imported"
            assert "not mounted" in state_of(agent, media)["reason"]
            agent.restart()
        assert serves(agent, name, image)
        assert serves(agent, "docker.io/media/here:1", other)
        seen = agent.now()
        stick.mount(media / "STICK")
        agent.wait_for(lambda: state_of(agent, media)["reason"] == "")
        agent.wait_idle()
        assert agent.events(after=seen) == []
        path.unlink()
        agent.wait_state(path, "removed")
        stick.unmount()


@needs_mounts
def test_a_stick_that_breaks_while_it_is_read_makes_no_storm(tmp_path, stick):
    """Reads fail, then it is pulled out; mended and plugged in again it is imported."""
    point = tmp_path / "usb"
    name = "docker.io/broken/app:1"
    with stick.elsewhere(tmp_path) as directory:
        made = tmp_path / "made.tar"
        image = random_image("broken", layers=3, layer_bytes=12 << 20)
        oci_archive(made, {name: image})
        shutil.copyfile(made, directory / "a.tar.part")
    whole = tmp_path / "whole.img"
    shutil.copyfile(stick.image, whole)
    with start(tmp_path, point) as agent:
        stick.mount(point)
        with (point / "a.tar.part").open("rb") as file:  # cached if a namespace still has the mount
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.truncate(stick.image, 24 << 20)  # the end of the stick can't be read
        (point / "a.tar.part").rename(point / "a.tar")
        agent.wait_state(point / "a.tar", "unreadable", "failed")
        time.sleep(3)
        assert name not in agent.images()
        assert len(agent.complaints()) == 1, agent.complaints()
        stick.unmount("-l")
        agent.wait_for(lambda: state_of(agent, point)["mode"] == "absent")
        time.sleep(1)
        said = len(agent.complaints())
        time.sleep(3)
        assert len(agent.complaints()) == said
        stick.image.unlink()
        shutil.copyfile(whole, stick.image)
        stick.mount(point)
        (point / "a.tar.part").rename(point / "a.tar")
        agent.wait_imported(point / "a.tar")
        assert serves(agent, name, image)
        stick.unmount()


@needs_mounts
def test_a_lazy_unmount_while_an_archive_is_read_loses_nothing(tmp_path, stick):
    point = tmp_path / "usb"
    name = "docker.io/lazy/app:1"
    with stick.elsewhere(tmp_path) as directory:
        image = random_image("lazy", layers=2, layer_bytes=16 << 20)
        oci_archive(directory / "a.tar", {name: image})
    with start(tmp_path, point) as agent:
        stick.mount(point)
        agent.wait_for(
            lambda: agent.events("settled", path=point / "a.tar") and True, what="it is read"
        )
        stick.unmount("-l")
        agent.wait_idle()
        state = agent.archives()[point / "a.tar"]["state"]
        assert state in {"imported", "importing", "queued", "failed"}
        stick.mount(point)
        agent.wait_imported(point / "a.tar")
        assert serves(agent, name, image)
        assert len(agent.complaints()) <= 1
        stick.unmount()


@needs_mounts
@pytest.mark.needs("mkfs.ext4")
def test_a_stick_may_be_pulled_out_once_its_archive_was_taken_in(tmp_path, stick):
    """With `copy = true` the import ends well without the stick; nothing of the copy stays."""
    point = tmp_path / "usb"
    name = "docker.io/taken/app:1"
    with stick.elsewhere(tmp_path) as directory:
        image = random_image("taken", layers=2, layer_bytes=10 << 20)
        oci_archive(directory / "a.tar", {name: image}, compression="bzip2")  # slow to unpack
    with start(tmp_path, point, tables={"copy": True}) as agent:
        stick.mount(point)
        size = (point / "a.tar").stat().st_size
        agent.wait_for(
            lambda: any(item["done_bytes"] > size for item in agent.status()["imports"]),
            what="the archive was copied and is being read",
        )
        stick.unmount()  # plainly: nothing holds it
        agent.wait_imported(point / "a.tar")
        assert state_of(agent, point)["mode"] == "absent"
        assert serves(agent, name, image)
        agent.wait_idle()
        assert list((agent.data / "ingest").iterdir()) == []
        assert agent.complaints() == []


@needs_mounts
def test_an_overlay_file_system_is_polled(tmp_path):
    """What comes into its lower layer is announced to nobody."""
    store = tmp_path / "tmpfs"  # an overlay on an overlay is refused by many kernels
    store.mkdir()
    run("mount", "-t", "tmpfs", "none", str(store))
    try:
        for name in ("lower", "upper", "work"):
            (store / name).mkdir()
        options = f"lowerdir={store}/lower,upperdir={store}/upper,workdir={store}/work"
        merged = tmp_path / "merged"
        merged.mkdir()
        run("mount", "-t", "overlay", "-o", options, "overlay", str(merged))
        try:
            with start(tmp_path, merged, environ={"AIRSIDE_POLL_SECONDS": "0.5"}) as agent:
                agent.wait_for(lambda: state_of(agent, merged)["mode"] == "polling")
                assert state_of(agent, merged)["reason"].startswith("overlay")
                first = archive(merged / "a.tar", "docker.io/overlay/a:1", "overlay a")
                second = archive(store / "lower" / "b.tar", "docker.io/overlay/b:1", "overlay b")
                agent.wait_imported(merged / "a.tar", merged / "b.tar")
                assert serves(agent, "docker.io/overlay/a:1", first)
                assert serves(agent, "docker.io/overlay/b:1", second)
                (merged / "a.tar").unlink()
                agent.wait_state(merged / "a.tar", "removed")
        finally:
            run("umount", str(merged))
    finally:
        run("umount", str(store))
