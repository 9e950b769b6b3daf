"""Findings of fuzzing, run through the same functions; and that the targets work at all.

A finding is kept by `python -m fuzz --keep TARGET FILE`, which prints its line. No fuzzer
is needed. Those of `http`, which need a server, are in tests/component/test_registry_bytes.py.
"""

import base64
import importlib.util
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from fuzz import __main__ as runner
from fuzz import planners, tar
from fuzz.symbolic import resolve, symbolic
from fuzz.target import FindingError, require
from fuzz.targets import TARGETS
from support.members import Members

ROOT = Path(__file__).parents[3]


def packed(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


OLD = '["%s/json","text","{}"],["%s/layer.tar","text","x"]' % (("a" * 64,) * 2)
BLOCKS_WITHOUT_BYTES = (
    "KLUv/SAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQAABgAAAABPAAAAACAAAAAAAAAAAAAA"
    "AAEotS9iAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQAAWipNpRgDAAAAYQ=="
)
LISTED_TWICE = (
    "c-qZU!ES>v4E-1HxF`tFdf?QLn06r?QZUq8NKlO`I+TB}DVio#U8~-9ieCKe_xzF>T5`xxlqHaFaMGU~"
    "JSZ4(8s(S`aJ|Rge&B&AcmqYI4D{Ahi#)R6QaC*}WZzE%3N~Pe!BK5T;U`Dm=unfU-gc;e`t&h<U4#tC"
    "u!cIhx^(j1W^bEfn_db`-|N5^!BIV-v##<$B)bw39IFVGDq-isj+2#`Y}1E%)WNsZ3ApQV`pZdv<s@I$"
    "HQ?+?RF;Tu+RFadGo`n~%YR)?P*n;X`7il!bBt&8_tH!"
)

FINDINGS = [
    ("platforms", "an os that reads back as two fields", b'{"os": "a/b", "architecture": "c"}'),
    ("platforms", "a parenthesis", b'{"os": "wi(dows", "architecture": "x", "os.version": "1"}'),
    ("platforms", "a plus sign", b'{"os": "a", "architecture": "b", "os.features": ["c+d"]}'),
    (
        "platforms",
        "a digit that int() does not read",
        '{"os": "linux", "architecture": "arm64", "variant": "v\N{SUPERSCRIPT TWO}"}'.encode(),
    ),
    (
        "platforms",
        "more digits than int() reads",
        b'{"os": "linux", "architecture": "arm64", "variant": "%s"}' % (b"9" * 5000),
    ),
    (
        "platforms",
        "a variant of its own was not taken first",
        b'{"os":"l","architecture":"arm64","variant":"x"}\n{"os":"l","architecture":"arm64"}',
    ),
    (
        "planners",
        "a tag that points at the empty ID",
        b'{"files":[%s,["repositories","text","{\\"a\\":{\\"1\\":\\"\\"}}"]],"links":{}}'
        % OLD.encode(),
    ),
    (
        "planners",
        "an index with a manifest that is listed elsewhere with its true size",
        packed(LISTED_TWICE),
    ),
    (
        "archives",
        "a member's name that is not UTF-8, and could not be recorded",
        packed("c-nizKzm>S1ZE~CU>XR}X)J6rV?#p*1p_*`jiI!-B(Vr+CBrBf1*2dTj4S{EA<hjI"),
    ),
    (
        "zstd",
        "the library refuses a frame only if it is fed whole",
        base64.b64decode(BLOCKS_WITHOUT_BYTES),
    ),
]


@pytest.mark.parametrize(("name", "what", "data"), FINDINGS, ids=[what for _, what, _ in FINDINGS])
def test_what_was_found_stays_mended(name: str, what: str, data: bytes) -> None:
    assert what
    TARGETS[name].check(data)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "http"])
def test_every_seed_passes(name: str) -> None:
    target = TARGETS[name]
    seeds = list(target.seeds())
    assert len(set(seeds)) > 3
    assert any(len(seed) <= target.max_bytes for seed in seeds)
    for seed in seeds:
        target.check(seed)


def test_a_finding_is_told_by_an_exception() -> None:
    with pytest.raises(FindingError, match="what must not be"):
        require(False, "what must not be")


def test_an_archive_as_json_is_the_archive_that_it_was_made_of() -> None:
    for members in planners.archives():
        found = resolve(symbolic(members))
        assert found is not None
        assert (found.files, found.links) == (members.files, members.links)


def test_a_changed_file_changes_what_names_it() -> None:
    files = b'{"files":[["a","text","x"],["b","text","@0 #0 \\"#0\\""]],"links":{"c":"a"}}'
    found = resolve(files)
    changed = resolve(files.replace(b'"x"', b'"xy"'))
    assert found is not None
    assert changed is not None
    assert found.files["b"] != changed.files["b"]
    assert changed.files["b"].endswith(b" #0 2")


def test_a_file_that_names_itself_has_some_digest() -> None:
    found = resolve(b'{"files":[["a","text","@0"]],"links":{}}')
    assert found is not None
    assert len(found.files["a"]) == 64


def test_checksums_are_made_right() -> None:
    good = next(iter(TARGETS["tar"].seeds()))
    bad = good[:148] + b"1234567\0" + good[156:]
    assert tar.with_checksums(bad)[:512] == tar.with_checksums(good)[:512]


def test_a_plan_that_takes_a_wrong_blob_is_found() -> None:
    members = next(planners.archives())
    plan = members.plan()
    name, other = list(members.files)[:2]
    wrong = Members({**members.files, name: b"other", other: b"bytes"})
    with pytest.raises(FindingError):
        planners.check_plan(wrong, plan)


# The runner


def test_without_the_fuzzer_it_is_said_what_is_missing(monkeypatch, capsys) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(sys, "argv", ["fuzz"])
    assert runner.main() == 2
    assert "x86-64" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--seconds", "1e9"], ["--keep", "tar"]])
def test_wrong_usage_is_refused(arguments: list[str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", *arguments])
    with pytest.raises(SystemExit) as caught:
        runner.main()
    assert caught.value.code == 2


def test_an_input_is_replayed_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"busybox")

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "fuzz", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "nothing found" in run("--replay", "references", str(file))
    line = run("--keep", "references", str(file)).strip()
    assert eval(line, {"packed": packed}) == (("references", "what it was", b"busybox"),)
