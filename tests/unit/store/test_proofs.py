"""Proofs on disk that files of blobs were hashed."""

from pathlib import Path

from airside.oci.digest import digest_of
from airside.store.proofs import Proofs

A, B = digest_of(b"a"), digest_of(b"b")
HOUR = 3600.0


def noted(data: Path, boot: str = "boot-1") -> Proofs:
    proofs = Proofs(data, boot)
    proofs.note(A, "1:2:3:4")
    proofs.note(B, "1:2:3:5")
    proofs.close()
    return proofs


def test_a_later_process_of_the_same_boot_reads_the_proofs(tmp_path: Path) -> None:
    noted(tmp_path)
    assert Proofs(tmp_path, "boot-1").recent(HOUR) == {A: "1:2:3:4", B: "1:2:3:5"}


def test_the_last_proof_of_a_blob_counts(tmp_path: Path) -> None:
    noted(tmp_path)
    again = Proofs(tmp_path, "boot-1")
    again.note(A, "1:9:3:4")
    again.close()
    assert Proofs(tmp_path, "boot-1").recent(HOUR)[A] == "1:9:3:4"


def test_no_proof_of_an_earlier_boot_counts_nor_stays(tmp_path: Path) -> None:
    noted(tmp_path)
    later = Proofs(tmp_path, "boot-2")
    assert later.recent(HOUR) == {}
    later.note(B, "1:2:3:5")
    later.close()
    assert Proofs(tmp_path, "boot-1").recent(HOUR) == {}
    assert Proofs(tmp_path, "boot-2").recent(HOUR) == {B: "1:2:3:5"}


def test_no_proof_is_kept_where_the_boot_is_unknown(tmp_path: Path) -> None:
    noted(tmp_path, "")
    assert not list(tmp_path.iterdir())
    assert Proofs(tmp_path, "").recent(HOUR) == {}


def test_a_proof_that_is_too_old_does_not_count(tmp_path: Path) -> None:
    noted(tmp_path)
    assert Proofs(tmp_path, "boot-1").recent(0.0) == {}


def test_a_damaged_or_cut_line_is_no_proof(tmp_path: Path) -> None:
    noted(tmp_path)
    path = tmp_path / "verified"
    whole = path.read_bytes()
    for at in range(len("airside verified 1 boot-1\n"), len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert len(Proofs(tmp_path, "boot-1").recent(HOUR)) <= 1
    path.write_bytes(whole[:-1])
    assert set(Proofs(tmp_path, "boot-1").recent(HOUR)) == {A}


def test_the_files_are_bounded_and_the_newest_proofs_stay(tmp_path: Path) -> None:
    proofs = Proofs(tmp_path, "boot-1", most_bytes=1000)
    digests = [digest_of(b"%d" % number) for number in range(100)]
    for digest in digests:
        proofs.note(digest, "1:2:3:4")
    proofs.close()
    found = Proofs(tmp_path, "boot-1").recent(HOUR)
    assert set(digests[-5:]) <= set(found) < set(digests)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3000


def test_a_data_directory_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    proofs = Proofs(tmp_path / "absent", "boot-1")
    proofs.note(A, "1:2:3:4")
    assert proofs.recent(HOUR) == {}
    proofs.close()
