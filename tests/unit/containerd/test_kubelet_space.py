"""When kubelet acts for lack of space, as its files and flags say."""

from pathlib import Path

import pytest

from airside.containerd.kubelet_space import (
    KubeletSpace,
    KubeletThresholds,
    kubelet_space,
    parse_space,
)

GIB = 1024**3


@pytest.mark.parametrize(
    ("text", "collects", "evicts", "size"),
    [
        ("", 15, 15, 0),
        ("imageGCHighThresholdPercent: 70\n", 30, 15, 0),
        ('{"imageGCHighThresholdPercent": 90}', 10, 15, 0),
        ("ExecStart=kubelet --image-gc-high-threshold=60", 40, 15, 0),
        ("evictionHard:\n  imagefs.available: 20%\n  nodefs.available: 10%\n", 15, 20, 0),
        ('{"evictionHard": {"imagefs.available": "5%", "nodefs.available": "12.5%"}}', 15, 12.5, 0),
        ("evictionHard:\n  nodefs.available: 30Gi\n", 15, 0, 30 * GIB),
        ("kubelet-arg:\n  - eviction-hard=imagefs.available<5%,nodefs.available<6%\n", 15, 6, 0),
        ("evictionHard:\n  nodefs.inodesFree: 5%\n", 15, 15, 0),
        ("evictionSoft:\n  imagefs.available: '25%'\n", 15, 25, 0),
        ("--eviction-minimum-reclaim=imagefs.available=30%,nodefs.available=30%", 15, 15, 0),
        ("evictionMinimumReclaim:\n  imagefs.available: 40%\n  nodefs.available: 50%\n", 15, 15, 0),
        ('{"evictionMinimumReclaim": {"imagefs.available": "40%"}}', 15, 15, 0),
        ("# imageGCHighThresholdPercent: 10\n", 15, 15, 0),
    ],
)
def test_thresholds_are_read_from_any_form(
    text: str, collects: float, evicts: float, size: int
) -> None:
    found = parse_space([text])
    assert (found.collects_percent, found.evicts_percent, found.evicts_bytes) == (
        collects,
        evicts,
        size,
    )


def test_airside_acts_before_kubelet() -> None:
    assert KubeletSpace().kept_percent(100 * GIB) == 17
    assert KubeletSpace(10, 0, 30 * GIB).kept_percent(100 * GIB) == 32
    assert KubeletSpace(99, 0, 0).kept_percent(100 * GIB) == 100


def test_the_highest_of_several_files_counts() -> None:
    found = parse_space(["imageGCHighThresholdPercent: 90", "imageGCHighThresholdPercent: 75"])
    assert found.collects_percent == 25


def test_a_host_without_a_kubelet_has_no_thresholds(tmp_path: Path) -> None:
    assert kubelet_space(tmp_path, tmp_path) is None
    assert KubeletThresholds(tmp_path, tmp_path).kept_percent(GIB) == 0


def test_the_files_of_a_kubelet_count_on_the_file_system_it_looks_at(tmp_path: Path) -> None:
    config = tmp_path / "var/lib/kubelet/config.yaml"
    config.parent.mkdir(parents=True)
    assert kubelet_space(tmp_path, tmp_path) == KubeletSpace()
    config.write_text("evictionHard:\n  imagefs.available: 22%\n")
    found = kubelet_space(tmp_path, tmp_path)
    assert found is not None
    assert (found.evicts_percent, found.is_found) == (22, True)
    assert KubeletThresholds(tmp_path, tmp_path).kept_percent(GIB) == 24
    assert kubelet_space(tmp_path, Path("/proc")) is None, "another file system"
    assert kubelet_space(tmp_path, tmp_path / "absent") is None
