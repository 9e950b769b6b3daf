"""Uploads of archives on a real file system: what is visible when, and what outlasts a restart."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from airside.core.disk_space import DiskSpace
from airside.core.errors import (
    AirsideError,
    ChecksumMismatchError,
    ConflictError,
    DeniedError,
    RequestInvalidError,
    StorageFullError,
    StoreError,
    TooLargeError,
    TooManyError,
    UploadRangeError,
    UploadUnknownError,
)
from airside.core.settings import Limits, WatchedDirectory
from airside.importer.watch.directories import is_candidate
from airside.page.uploads.archive_uploads import ArchiveUploads
from airside.page.uploads.offers import Offer
from support.nodes import settings_at

BYTES = b"an archive" * 1000
SHA256 = hashlib.sha256(BYTES).hexdigest()


class Place:
    """A watched directory, a data directory and a clock."""

    def __init__(self, root: Path) -> None:
        self.images, self.data, self.now = root / "images", root / "data", 1000.0
        self.images.mkdir()
        self.data.mkdir()

    def uploads(self, **changes: object) -> ArchiveUploads:
        values = {"images": (WatchedDirectory(self.images),), **changes}
        settings = settings_at(self.data, **values)
        wall = max((path.stat().st_mtime for path in self.images.iterdir()), default=0.0)
        begun = self.now
        return ArchiveUploads(
            settings,
            DiskSpace(0),
            clock=lambda: self.now,
            wall=lambda: wall + self.now - begun,
        )

    def visible(self) -> dict[str, bytes]:
        found = (path for path in self.images.iterdir() if is_candidate(path.name))
        return {path.name: path.read_bytes() for path in found}

    def hidden(self) -> int:
        return sum(not is_candidate(path.name) for path in self.images.iterdir())

    def records(self) -> int:
        return sum(1 for _ in (self.data / "uploads").glob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def offer(**changes: object) -> Offer:
    return Offer(**{"name": "app.tar", "length": len(BYTES), **changes})  # type: ignore[arg-type]


def test_an_archive_is_visible_when_all_of_it_is_there(place: Place) -> None:
    uploads = place.uploads()
    upload = uploads.begin(offer(sha256=SHA256))
    uploads.write(upload, [BYTES[:100], BYTES[100:5000]])
    assert (place.visible(), place.hidden(), upload.offset) == ({}, 1, 5000)
    with pytest.raises(RequestInvalidError):
        uploads.finish(upload)
    uploads.write(upload, [BYTES[5000:]])
    assert place.visible() == {}
    assert uploads.finish(upload) == place.images / "app.tar"
    assert place.visible() == {"app.tar": BYTES}
    assert (place.hidden(), place.records(), uploads.unfinished()) == (0, 0, [])
    assert uploads.find(upload.id).offset == len(BYTES)  # for a client whose last answer was lost
    assert uploads.finish(upload) == place.images / "app.tar"


def test_what_is_there_is_replaced_only_if_the_client_says_so(place: Place) -> None:
    uploads = place.uploads()
    before = uploads.begin(offer(length=3))
    (place.images / "app.tar").write_bytes(b"old")
    with pytest.raises(ConflictError, match="already"):
        uploads.begin(offer())
    uploads.write(before, [b"new"])
    with pytest.raises(ConflictError, match="already"):  # it came in the meantime
        uploads.finish(before)
    assert place.visible() == {"app.tar": b"old"}
    after = uploads.begin(offer(length=3, replace=True))
    uploads.write(after, [b"new"])
    uploads.finish(after)
    assert place.visible() == {"app.tar": b"new"}


def test_a_link_is_replaced_and_not_written_through(place: Place, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (place.images / "app.tar").symlink_to(tmp_path / "secret")
    uploads = place.uploads()
    upload = uploads.begin(offer(length=3, replace=True))
    uploads.write(upload, [b"new"])
    uploads.finish(upload)
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert place.visible() == {"app.tar": b"new"}


def test_a_directory_is_never_replaced(place: Place) -> None:
    (place.images / "layout").mkdir()
    with pytest.raises(ConflictError, match="directory"):
        place.uploads().begin(offer(name="layout", replace=True))


def test_an_upload_goes_on_after_a_restart(place: Place) -> None:
    first = place.uploads()
    upload = first.begin(offer(sha256=SHA256), "password ada")
    first.write(upload, [BYTES[:4000]])
    second = place.uploads()
    second.load()
    found = second.find(upload.id, "password ada")
    assert found.offset == 4000
    second.expect(found, 4000, len(BYTES) - 4000)
    second.write(found, [BYTES[4000:]])
    second.finish(found)
    assert place.visible() == {"app.tar": BYTES}


def test_an_upload_belongs_to_the_account_that_began_it(place: Place) -> None:
    uploads = place.uploads()
    upload = uploads.begin(offer(), "password ada")
    for owner in ("", "password bob", "token ada"):
        with pytest.raises(UploadUnknownError):
            uploads.find(upload.id, owner)
    with pytest.raises(UploadUnknownError):
        uploads.find("0" * 32)


def test_a_wrong_checksum_deletes_what_came(place: Place) -> None:
    uploads = place.uploads()
    upload = uploads.begin(offer(sha256="0" * 64))
    uploads.write(upload, [BYTES])
    with pytest.raises(ChecksumMismatchError, match=SHA256):
        uploads.finish(upload)
    assert (place.visible(), place.hidden(), place.records()) == ({}, 0, 0)


def test_bytes_at_another_offset_or_above_the_length_are_refused(place: Place) -> None:
    uploads = place.uploads()
    upload = uploads.begin(offer(length=10))
    uploads.write(upload, [b"12345"])
    with pytest.raises(UploadRangeError):
        uploads.expect(upload, 4, 1)
    with pytest.raises(RequestInvalidError):
        uploads.expect(upload, 5, 6)
    with pytest.raises(RequestInvalidError):
        uploads.write(upload, [b"678901"])
    assert upload.offset == 5


REFUSED: dict[str, tuple[type[AirsideError], Callable[[Place], ArchiveUploads]]] = {
    "too large": (
        TooLargeError,
        lambda place: place.uploads(limits=Limits(archive_upload_bytes=len(BYTES) - 1)),
    ),
    "read-only": (DeniedError, lambda place: place.uploads(read_only=True)),
    "switched off": (DeniedError, lambda place: place.uploads(upload_directory="none")),
    "nothing watched": (DeniedError, lambda place: place.uploads(images=())),
    "no directory": (
        DeniedError,
        lambda place: place.uploads(images=(WatchedDirectory(place.images / "absent"),)),
    ),
    "a file": (
        DeniedError,
        lambda place: place.uploads(images=(WatchedDirectory(Path("/etc/hostname")),)),
    ),
    "a file system that nobody writes to": (
        DeniedError,
        lambda place: place.uploads(upload_directory="/proc"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_stored_is_refused_before_a_byte_comes(place: Place, case: str) -> None:
    kind, made = REFUSED[case]
    uploads = made(place)
    if case == "a file system that nobody writes to":
        with pytest.raises((DeniedError, StoreError)):
            uploads.begin(offer())
        return
    with pytest.raises(kind):
        uploads.begin(offer())
    assert bool(uploads.refusal()) == (kind is DeniedError)
    assert place.hidden() == 0


def test_a_read_only_mount_is_told_with_what_to_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(os, "statvfs", lambda _path: ReadOnly)
    found = place.uploads().refusal()
    assert "mounted read-only" in found
    assert "copy archives into it on the host" in found


def test_the_space_of_the_import_and_of_other_uploads_counts(place: Place) -> None:
    uploads = place.uploads()
    room = DiskSpace(0).room_bytes(place.images)
    assert room is not None
    with pytest.raises(StorageFullError, match="whose import stores about as many"):
        uploads.begin(offer(length=room * 6 // 10))
    uploads.begin(offer(length=room * 3 // 10))
    with pytest.raises(StorageFullError):
        uploads.begin(offer(length=room * 4 // 10))
    assert place.hidden() == 1


def test_unfinished_uploads_are_limited(place: Place) -> None:
    uploads = place.uploads(limits=Limits(archive_uploads=2))
    first = uploads.begin(offer())
    uploads.begin(offer())
    with pytest.raises(TooManyError):
        uploads.begin(offer())
    uploads.cancel(first)
    uploads.begin(offer())
    assert (place.hidden(), place.records()) == (2, 2)


def test_an_abandoned_upload_is_deleted_and_one_that_is_written_to_is_not(place: Place) -> None:
    uploads = place.uploads(archive_upload_seconds=100.0)
    abandoned, busy = uploads.begin(offer()), uploads.begin(offer())
    place.now += 90
    uploads.write(busy, [b"a byte"])
    place.now += 20
    uploads.sweep()
    assert uploads.unfinished() == [busy]
    assert (place.hidden(), place.records()) == (1, 1)
    with pytest.raises(UploadUnknownError):
        uploads.find(abandoned.id)


def test_the_age_of_an_upload_counts_across_a_restart(place: Place) -> None:
    uploads = place.uploads(archive_upload_seconds=100.0)
    uploads.write(uploads.begin(offer()), [b"a byte"])
    again = place.uploads(archive_upload_seconds=100.0)
    place.now += 60
    again.load()
    place.now += 60
    again.sweep()
    assert (place.hidden(), place.records()) == (0, 0)


def test_bytes_of_no_upload_are_deleted_when_they_are_old(place: Place) -> None:
    """Another agent on the same directory has its own uploads: those are young."""
    left = place.images / f".airside-upload-{'0' * 32}.part"
    other = place.images / ".airside-upload-notes.part"
    left.write_bytes(b"left")
    other.write_bytes(b"somebody else's")
    uploads = place.uploads(archive_upload_seconds=100.0)
    uploads.load()
    uploads.sweep()
    assert left.exists()
    place.now += 101
    uploads.sweep()
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize("change", ["link", "hard link", "shorter", "gone"])
def test_bytes_that_somebody_else_changed_are_not_written_to(
    place: Place, tmp_path: Path, change: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 100)
    uploads = place.uploads()
    upload = uploads.begin(offer())
    uploads.write(upload, [b"a byte"])
    upload.path.unlink()
    if change == "link":
        upload.path.symlink_to(victim)
    elif change == "hard link":
        upload.path.hardlink_to(victim)
    elif change == "shorter":
        upload.path.write_bytes(b"a")
    with pytest.raises(StoreError):
        uploads.write(upload, [b"more"])
    assert victim.read_bytes() == b"x" * 100


def test_records_that_are_damaged_or_name_another_path_are_dropped(place: Place) -> None:
    uploads = place.uploads()
    upload = uploads.begin(offer())
    records = place.data / "uploads"
    record = (records / f"{upload.id}.json").read_text()
    (records / f"{upload.id}.json").write_text(record.replace("app.tar", "../../etc/x"))
    (records / "junk.json").write_text("{")
    (records / "other.json").write_text("[]")
    again = place.uploads()
    again.load()
    assert again.unfinished() == []
    assert place.records() == 0


def test_what_cannot_be_resumed_is_deleted_by_the_next_agent(place: Place) -> None:
    for given in (offer(), offer(name="form.tar", length=None)):
        upload = place.uploads().begin(given, resumable=False)
        upload.append([BYTES])
    kept = place.uploads().begin(offer(name="kept.tar"))
    again = place.uploads()
    again.load()
    assert [each.id for each in again.unfinished()] == [kept.id]
    assert (place.hidden(), place.records()) == (1, 1)
