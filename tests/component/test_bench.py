"""The benchmark's own arithmetic, its document, and the making of its set from packages."""

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

import pairs
import processors
import profiles
import real_set
import report
from pairs import LIMIT, OURS, PEER, Measure, Sample


def test_ratios_are_taken_within_a_round():
    found = pairs.ratio([4.0, 9.0, 20.0], [2.0, 3.0, 4.0], more_is_better=True)
    assert (found.worst, found.median, found.best) == (2.0, 3.0, 5.0)
    found = pairs.ratio([4.0, 9.0, 20.0], [2.0, 3.0, 4.0], more_is_better=False)
    assert (found.worst, found.median, found.best) == (5.0, 3.0, 2.0)


def test_sides_of_unequal_rounds_have_no_ratio():
    with pytest.raises(ValueError, match="shorter"):
        pairs.ratio([1.0, 2.0], [1.0], more_is_better=True)
    with pytest.raises(ValueError, match="no rounds"):
        pairs.ratio([], [], more_is_better=True)


def test_percentiles_are_values_that_were_measured():
    values = [float(n) for n in range(1, 101)]
    assert pairs.percentile(values, 99) == 99.0
    assert pairs.percentile(values, 50) == 50.0
    assert pairs.percentile([7.0], 99) == 7.0
    assert pairs.percentile([1.0, 9.0], 99) == 9.0


def _measure() -> Measure:
    measure = Measure("named plain", "dropped → named", 3.0, 1.5, "`cp`")
    measure.add({OURS: Sample(1.0, 2.0), PEER: Sample(4.0, 4.0), LIMIT: Sample(0.5, 0.5)})
    return measure


def test_a_measure_compares_with_the_peer_and_the_limit():
    measure = _measure()
    assert measure.peer_ratio.median == 4.0
    assert measure.limit_ratio.median == 2.0
    assert measure.peer_processor_ratio.median == 2.0
    assert measure.limit_processor_ratio.median == 4.0
    assert measure.medians(OURS) == "1.00 (2.00)"
    assert measure.as_json()["ratios"]["peer_over_airside"]["worst"] == 4.0


def test_the_document_says_which_targets_are_met_and_which_missed():
    [table] = report.missed([_measure()])
    assert "met: 4.00, aim >= 3.0" in table
    assert "**missed**: 2.00, aim <= 1.5" in table


def test_a_section_is_replaced_and_the_others_stay():
    text = (
        "a\n<!-- bench one -->\nold\n<!-- /bench -->\nb\n<!-- bench two -->\n2\n<!-- /bench -->\n"
    )
    found = report.replaced(text, {"one": r"new \1", "three": "no place"})
    assert found == text.replace("old\n", "\n" + r"new \1" + "\n\n")
    assert report.replaced(found, {"one": r"new \1"}) == found


def test_the_document_has_a_place_for_each_part():
    text = report.DOCUMENT.read_text()
    parts = ["importing", "profile", "neighbour", "eight", "observing", "serving", "traffic"]
    for part in [*parts, "restart", "idle", "memory"]:
        assert report.replaced(text, {part: "x" * 9}) != text


def test_processor_time_is_summed_over_descendants(tmp_path):
    for pid, parent, times in ((5, 1, "100 50 7 3"), (6, 5, "10 0 0 0"), (7, 1, "900 900 0 0")):
        (tmp_path / str(pid)).mkdir()
        before = " ".join(["S", str(parent), *["0"] * 9])
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) b) {before} {times} 20 0")
    (tmp_path / "uptime").write_text("")
    assert processors.family([5], tmp_path) == {5, 6}
    used = processors.used_by([5], tmp_path)
    assert (used.user, used.system) == pytest.approx((1.17, 0.53))
    assert processors.used_by([99], tmp_path).total == 0


def test_the_stages_of_an_import_are_found_in_a_debug_log():
    log = (
        "x debug airside: /i/a.tar: imported after 12 ms: headers 1+2, sync 3+4\n"
        "x debug airside: a:1: published after 5 ms: lease 0+1\n"
        "x debug airside: b:1: published after 6 ms: lease 0+2\n"
    )
    assert profiles.stages_in(log) == [
        "imported after 12 ms: headers 1+2, sync 3+4",
        "published after 6 ms: lease 0+2",
    ]


def test_a_profile_says_how_much_of_the_time_was_the_kernels():
    where = {"cores": 2, "processor": "x", "memory_gb": 8, "kernel": "6"}
    told = {"date": "2026-12-01", "commit": "c", "machine": where, "load": [1, 2]}
    processes = {"agent": [1.0, 2.0], "workers": [0.5, 1.5]}
    found = {"name": "n", "processes": processes, "functions": {"a.b": 1.0}, "stages": ["s"]}
    text = report.profiles([found], {**told, "containerd": "2.1"})
    assert "in the kernel: 3.50 of 5.00 seconds" in text
    assert "agent 1.00 + 2.00, workers 0.50 + 1.50" in text
    assert "the load was 1.0 to 2.0" in text


# the set


@pytest.fixture
def packages(tmp_path):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb here")
    made = {}
    for name in ("one", "two"):
        tree = tmp_path / name
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y>\nDescription: x\n"
        )
        (tree / "usr/bin").mkdir(parents=True)
        (tree / "usr/bin" / name).write_bytes(name.encode() * 1000)
        (tree / "usr/bin" / f"a-{name}").hardlink_to(tree / "usr/bin" / name)
        (tree / "usr/bin" / f"to-{name}").symlink_to(name)
        made[name] = tmp_path / f"{name}.deb"
        subprocess.run(["dpkg-deb", "--build", "-Znone", tree, made[name]], check=True)
    return made


def test_a_layer_of_packages_is_the_same_each_time(packages, tmp_path, monkeypatch):
    monkeypatch.setattr(real_set, "LAYERS", {"base": "one two"})
    found = []
    for number in (1, 2):
        scratch = tmp_path / str(number)
        (scratch / "layers").mkdir(parents=True)
        layer = real_set._layer(scratch, 0, "base", packages)
        path = scratch / "layers" / layer["file"]
        assert layer["diff_id"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        found.append(layer)
    assert found[0] == found[1]
    with tarfile.open(path) as tar:
        names = tar.getnames()
        links = [(each.name, each.linkname) for each in tar if each.islnk()]
    assert names[:2] == ["usr", "usr/bin"]
    assert len(names) == len(set(names)) == layer["entries"] == 8
    assert all(names.index(target) < names.index(name) for name, target in links)
    assert len(links) == 2


def test_the_lock_file_pins_each_package_of_the_set():
    asked = {name for text in real_set.LAYERS.values() for name in text.split()}
    pinned = real_set.pinned()
    assert set(pinned) == asked
    assert all(len(digest) == 64 for _, digest in pinned.values())
    known = {*real_set.LAYERS, real_set.SLIM}
    assert known >= {layer for layers in real_set.IMAGES.values() for layer in layers}
