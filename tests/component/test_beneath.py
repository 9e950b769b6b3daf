"""What a user who may write into a watched directory makes the agent open, and what is refused."""

import errno
import os
import stat
import struct
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest

from airside.archive.beneath import Beneath, directory, names
from airside.archive.beneath.rights import READ, User
from airside.archive.beneath.system_calls import is_on_disk, openat2
from airside.archive.directory import stat_key
from airside.core.errors import AirsideError, ArchiveError, LinkRefusedError
from support.size import sized

OTHER, THIRD = 65534, 65533
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to other users")
pytestmark = ROOT


@pytest.fixture(params=["openat2", errno.ENOSYS, errno.EPERM], ids=["openat2", "old", "seccomp"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    """A kernel with `openat2`, one without, and one where a filter forbids it."""
    if request.param != "openat2":

        def refused(*_: object) -> int:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(directory, "openat2", refused)
    return request.param


@pytest.fixture
def images(top: Path) -> Path:
    (top / "images").mkdir(mode=0o777)
    (top / "images").chmod(0o777)
    return top / "images"


def _file(path: Path, *, mode: int = 0o644, owner: int = 0, text: str = "outside") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


def _link(path: Path, target: Path | str, owner: int = OTHER) -> Path:
    path.symlink_to(target)
    os.lchown(path, owner, owner)
    return path


def _read(images: Path, path: Path, links: str = "owner") -> str:
    with Beneath(images, links).open(path) as opened:
        return os.read(opened.descriptor, 100).decode()


def _is_refused(images: Path, path: Path, links: str = "owner") -> bool:
    beneath = Beneath(images, links)
    with pytest.raises(LinkRefusedError) as caught:
        beneath.stat(path)
    with pytest.raises(LinkRefusedError), beneath.open(path):
        pass
    message = caught.value.message
    return str(path) in message and f'links = "{links}"' in message


@pytest.mark.usefixtures("kernel")
def test_a_link_out_is_followed_only_to_what_its_owner_may_read(top: Path, images: Path) -> None:
    private = _file(top / "private", mode=0o600)
    public = _file(top / "public")
    own = _file(top / "own", mode=0o600, owner=OTHER)
    foreign = _file(top / "foreign", owner=THIRD)
    hidden = _file(top / "closed/file")
    hidden.parent.chmod(0o700)
    for number, (target, is_read) in enumerate(
        ((private, False), (public, True), (own, True), (foreign, False), (hidden, False))
    ):
        path = _link(images / f"link-{number}", target)
        relative = _link(images / f"relative-{number}", os.path.relpath(target, images))
        for each in (path, relative):
            if is_read:
                assert _read(images, each) == "outside", target
            else:
                assert _is_refused(images, each), target
            assert _is_refused(images, each, "inside"), target
            assert _read(images, each, "any") == "outside", target


@pytest.mark.usefixtures("kernel")
def test_the_kernel_judges_the_link_s_owner_once_more(
    top: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system with rights that neither mode nor ACL show."""
    monkeypatch.setattr(User, "may", lambda *_: True)
    path = _link(images / "link", _file(top / "private", mode=0o600))
    with pytest.raises(LinkRefusedError), Beneath(images).open(path):
        pass
    monkeypatch.setattr(directory, "can_act", lambda: False)
    assert _read(images, path) == "outside"


@pytest.mark.usefixtures("kernel")
def test_what_does_not_exist_looks_like_what_may_not_be_reached(top: Path, images: Path) -> None:
    (top / "closed").mkdir(mode=0o700)
    for name in ("there", "absent"):
        if name == "there":
            _file(top / "closed" / name)
        link = _link(images / name, top / "closed" / name)
        through = _link(images / f"up-{name}", f"../closed/../closed/{name}")
        assert _is_refused(images, link)
        assert _is_refused(images, through)
    dangling = _link(images / "dangling", top / "nothing")
    with pytest.raises(FileNotFoundError):
        Beneath(images).stat(dangling)
    assert _is_refused(images, dangling, "inside")


@pytest.mark.usefixtures("kernel")
def test_links_inside_are_followed_as_they_are(top: Path, images: Path) -> None:
    _file(images / "d/file", mode=0o600, text="inside")
    _link(images / "absolute", images / "d/file")
    _link(images / "relative", "d/../d/file")
    _link(images / "way", "d")
    _link(images / "out and in", f"../{images.name}/d/file")
    _link(images / "round", "round")
    for name in ("absolute", "relative", "way/file", "out and in"):
        assert _read(images, images / name) == "inside", name
    for name in ("absolute", "relative", "way/file"):
        assert _read(images, images / name, "inside") == "inside", name
    with pytest.raises(OSError, match="Too many levels"):
        Beneath(images).stat(images / "round")
    (top / "alias").symlink_to("images")
    assert _read(top / "alias", top / "alias/relative", "inside") == "inside"
    assert _read(top / "alias", top / "alias/absolute", "inside") == "inside"


@pytest.mark.usefixtures("kernel")
def test_the_owners_of_all_links_on_the_way_count(top: Path, images: Path) -> None:
    """A link of root's is no leave for who points at it."""
    private = _file(top / "private", mode=0o600)
    roots = _link(images / "roots", private, owner=0)
    assert _read(images, roots) == "outside"
    assert _is_refused(images, _link(images / "to roots", "roots"))
    theirs = _link(top / "theirs", private)
    assert _is_refused(images, _link(images / "through theirs", theirs, owner=0))
    public = _link(top / "public link", _file(top / "public"), owner=THIRD)
    assert _is_refused(images, _link(images / "of two", public))
    assert _is_refused(images, _link(images / "foreign", _file(top / "f", owner=OTHER), owner=0))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("links", ["inside", "owner", "any"])
def test_only_regular_files_and_directories_are_opened(top: Path, images: Path, links: str) -> None:
    os.mkfifo(images / "pipe", 0o666)
    os.mknod(images / "device", 0o666 | 0o020000, os.makedev(1, 5))
    os.mkfifo(top / "pipe", 0o666)
    targets = ("/dev/zero", "/proc/self/environ", "/proc/version", "/proc/self/fd/0", top / "pipe")
    paths = [_link(images / f"link-{n}", each) for n, each in enumerate(targets)]
    for path in (images / "pipe", images / "device", *paths):
        with pytest.raises((ArchiveError, FileNotFoundError)), Beneath(images, links).open(path):
            pass


@pytest.mark.usefixtures("kernel")
def test_a_watched_directory_that_is_exchanged_for_a_link_is_judged_too(top: Path) -> None:
    _file(top / "private/secret", mode=0o600)
    (top / "private").chmod(0o700)
    _link(top / "images", "private")
    for links in ("inside", "owner"):
        with pytest.raises(LinkRefusedError):
            Beneath(top / "images", links).stat(top / "images/secret")
        with pytest.raises(LinkRefusedError):
            Beneath(top / "images", links).stat(top / "images")
    (top / "images").unlink()
    _link(top / "images", "private", owner=0)
    assert Beneath(top / "images").stat(top / "images/secret").st_size


@pytest.mark.usefixtures("kernel")
def test_a_path_is_found_only_below_the_directory(top: Path, images: Path) -> None:
    _file(top / "public")
    for path in (top / "public", images / "../public", images / "d/../../public"):
        with pytest.raises((FileNotFoundError, LinkRefusedError)):
            Beneath(images, "inside").stat(path)
    with pytest.raises(FileNotFoundError):
        Beneath(images).stat(top / "public")
    for path in (images / "../public", images / f"../{images.name}"):
        assert _is_refused(images, path)


@pytest.mark.parametrize("is_protected", [True, False])
def test_a_private_file_is_not_read_by_a_hard_link_that_another_user_may_have_made(
    top: Path, images: Path, monkeypatch: pytest.MonkeyPatch, *, is_protected: bool
) -> None:
    monkeypatch.setattr(names, "are_protected", lambda: is_protected)
    (images / "roots").mkdir()
    for owner in (0, OTHER, THIRD):
        private = _file(top / f"private-{owner}", mode=0o600, owner=owner)
        public = _file(top / f"public-{owner}", owner=owner)
        for place in (images, images / "roots"):
            (place / private.name).hardlink_to(private)
            (place / public.name).hardlink_to(public)
            (place / f"link-{owner}").symlink_to(private.name)
            assert _read(images, place / public.name) == "outside"
        assert _read(images, images / "roots" / private.name) == "outside"
        for path in (images / private.name, images / f"link-{owner}"):
            if owner and is_protected:
                assert _read(images, path) == "outside"
            else:
                with pytest.raises(LinkRefusedError, match='links = "owner"'):
                    _read(images, path)
            assert _read(images, path, "any") == "outside"
    single = _file(images / "single", mode=0o600)
    assert _read(images, single) == "outside"


@pytest.mark.usefixtures("kernel")
def test_what_is_exchanged_under_the_reading_is_never_what_lies_outside(
    top: Path, images: Path
) -> None:
    _file(top / "private/d/file", mode=0o600)
    (top / "private").chmod(0o700)
    _file(images / "d/file", text="inside")
    _file(images / "e/file", text="inside")
    exchanges = (
        [_link(images / "link", top / "private/d"), images / "d"],
        [
            _link(images / "e/link", top / "private/d/file"),
            images / "e/file",
        ],
    )
    stop, beneath = threading.Event(), Beneath(images)

    def exchange() -> None:
        while not stop.is_set():
            for link, path in exchanges:
                aside = path.with_name("aside")
                path.rename(aside)
                link.rename(path)
                path.rename(link)
                aside.rename(path)

    found: Counter[str] = Counter()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(exchange)
        end = time.monotonic() + sized(0.3, 30.0)
        while time.monotonic() < end and not done.done():
            for path in (images / "d/file", images / "e/file"):
                try:
                    with beneath.open(path) as opened:
                        found[os.read(opened.descriptor, 10).decode()] += 1
                    found[f"{beneath.stat(path).st_size} bytes"] += 1
                    found[f"{stat_key(path, beneath).size_bytes} bytes"] += 1
                except (OSError, LinkRefusedError) as exc:
                    found[type(exc).__name__] += 1
        stop.set()
        done.result()
    link_bytes = {(images / name).lstat().st_size for name in ("link", "e/link")}
    allowed = {f"{size} bytes" for size in (len("inside"), *link_bytes)}
    assert found["inside"]
    assert found.keys() <= allowed | {"inside", "FileNotFoundError", "LinkRefusedError"}


def test_a_long_way_by_links_ends(images: Path) -> None:
    """Each name costs a call: a chain of links can ask for a hundred thousand."""
    (images / "d").mkdir()
    _link(images / "l0", "../" * 3)
    for number in range(1, 40):
        _link(images / f"l{number}", "d/../" * 100 + f"l{number - 1}")
    with pytest.raises(OSError, match="Too many levels"):
        Beneath(images).stat(images / "l39")
    before = _open_count()
    assert stat.S_ISDIR(Beneath(images).stat(images / "l2").st_mode)
    assert _open_count() == before


def test_the_stat_key_of_a_refused_link_is_that_of_the_link(top: Path, images: Path) -> None:
    private = _file(top / "private", mode=0o600, text="x" * 12345)
    link = _link(images / "a.tar", private)
    key = stat_key(link, Beneath(images))
    assert (key.inode, key.size_bytes) == (link.lstat().st_ino, link.lstat().st_size)
    private.write_text("another")
    assert stat_key(link, Beneath(images)) == key


def _open_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
OWNER, USER, OWNING_GROUP, GROUP, MASK, EVERYBODY = 1, 2, 4, 8, 16, 32


def test_an_acl_decides_as_the_kernel_does(top: Path) -> None:
    groups = sorted(User(OTHER).groups)
    group = groups[0] if groups else 12345
    bits = ((None, 0, 4), (0, 4), (None, 0, 4), (0, 4), (0, 4))
    for number, (named, owning, grouped, mask, everybody) in enumerate(product(*bits)):
        entries = [(OWNER, 6, NOBODY)]
        entries += [(USER, named, OTHER)] if named is not None else []
        entries += [(OWNING_GROUP, owning, NOBODY)]
        entries += [(GROUP, grouped, group)] if grouped is not None else []
        entries += [(MASK, mask, NOBODY), (EVERYBODY, everybody, NOBODY)]
        try:
            os.setxattr(_file(top / str(number)), "system.posix_acl_access", _acl(*entries))
        except OSError as exc:
            pytest.skip(f"the file system has no ACLs: {exc}")
    _compare_with_kernel(top, groups)


def test_a_mode_decides_as_the_kernel_does(top: Path) -> None:
    groups = sorted(User(OTHER).groups)
    owners, modes = (0, OTHER, THIRD), (0o400, 0o040, 0o004, 0o404, 0o044)
    for owner, mode, group in product(owners, modes, (0, *groups)):
        path = _file(top / f"{owner}-{mode}-{group}", mode=mode)
        os.chown(path, owner, group)
    _compare_with_kernel(top, groups)


def _compare_with_kernel(top: Path, groups: list[int]) -> None:
    """Compare each file's rights with what a process of the other user can read."""
    group = groups[0] if groups else OTHER
    script = (
        'for each in "$1"/*; do cat "$each" > /dev/null 2>&1 && echo "${each##*/}"; done; exit 0'
    )
    command = ["sh", "-c", script, "sh", top]
    done = subprocess.run(
        command, user=OTHER, group=group, extra_groups=groups, capture_output=True, check=True
    )
    readable = set(done.stdout.decode().split())
    for path in top.iterdir():
        descriptor = os.open(path, os.O_PATH)
        assert User(OTHER).may(descriptor, READ) == (path.name in readable), path
        os.close(descriptor)
    assert readable
    assert len(readable) < len(list(top.iterdir()))


def test_files_of_the_kernel_are_told_from_files_on_disk(top: Path) -> None:
    for path, on_disk in ((str(top), True), ("/proc/version", False), ("/sys/kernel", False)):
        descriptor = os.open(path, os.O_PATH)
        assert is_on_disk(descriptor) == on_disk, path
        os.close(descriptor)


def test_a_name_with_a_null_byte_is_no_path(images: Path) -> None:
    with pytest.raises((OSError, ValueError, AirsideError)):
        Beneath(images).stat(images / "a\0b")
    with pytest.raises(OSError, match="Invalid argument"):
        openat2(-1, "/\0", os.O_PATH, 0)
