"""Each import contract of `pyproject.toml` fails when it is broken on purpose, and only that."""

import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = {contract["name"]: contract for contract in TOOL["contracts"]}
LAYERED = [name for name, contract in CONTRACTS.items() if contract["type"] == "layers"]
FORBIDDING = [name for name, contract in CONTRACTS.items() if contract["type"] == "forbidden"]
WHOLE_PACKAGE = "airside"
MAX_LINES = 100
LINT_SECONDS = 60


def test_import_contracts_are_at_most_a_hundred_lines():
    tables = re.split(r"^(?=\[)", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    lines = "".join(table for table in tables if "tool.importlinter" in table).splitlines()
    assert sum(line.strip() != "" for line in lines) <= MAX_LINES


def test_every_contract_is_of_a_kind_that_is_broken_here():
    assert sorted(LAYERED + FORBIDDING) == sorted(CONTRACTS)


def test_the_code_keeps_all_contracts(copied):
    report = lint(copied)
    assert broken(report) == []
    assert f"{len(CONTRACTS)} kept, 0 broken" in report


@pytest.mark.parametrize("name", FORBIDDING)
def test_a_forbidden_import_from_any_source_breaks_its_contract_only(copied, name):
    contract = CONTRACTS[name]
    whole = WHOLE_PACKAGE in contract["source_modules"]
    sources = [f"{WHOLE_PACKAGE}.cli"] if whole else contract["source_modules"]
    pairs = list(itertools.product(sources, contract["forbidden_modules"]))
    report = break_with(copied, pairs)
    assert broken(report) == [name]
    for source, forbidden in pairs:
        holder = WHOLE_PACKAGE if whole else source
        assert f"{holder} is not allowed to import {forbidden}" in report


@pytest.mark.parametrize("name", LAYERED)
def test_an_import_by_the_next_layer_or_a_sibling_breaks_its_contract_only(copied, name):
    pairs = [(below, above) for above, below in neighbours(CONTRACTS[name])[:1]]
    # What the archive and the catalog import counts for the blob store too, whose rule then breaks.
    pairs += [pair for pair in sibling_pairs(CONTRACTS[name]) if "airside.catalog" not in pair]
    report = break_with(copied, pairs)
    assert broken(report) == [name]


@pytest.mark.parametrize("name", LAYERED)
def test_an_import_of_any_higher_layer_or_sibling_is_reported(copied, name):
    pairs = [(below, above) for above, below in neighbours(CONTRACTS[name])]
    pairs += sibling_pairs(CONTRACTS[name])
    report = break_with(copied, pairs)
    assert name in broken(report)
    for source, target in pairs:
        assert f"{source} is not allowed to import {target}" in report


def test_a_room_on_no_layer_breaks_the_layers(copied):
    (copied / "src/airside/attic").mkdir()
    (copied / "src/airside/attic/__init__.py").touch()
    assert "Could not run" not in (report := lint(copied))
    assert "attic" in report
    assert broken(report) == ["imports go down only"]


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[Path]:
    """A copy of the code and its contracts that a test may break."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    yield tmp_path
    shutil.rmtree(tmp_path)


def layers(contract) -> list[list[str]]:
    (container,) = contract["containers"]
    return [[f"{container}.{n.strip()}" for n in layer.split("|")] for layer in contract["layers"]]


def neighbours(contract) -> list[tuple[str, str]]:
    """Each module with each of the layer below it, from the top."""
    found = itertools.pairwise(layers(contract))
    return [pair for above, below in found for pair in itertools.product(above, below)]


def sibling_pairs(contract) -> list[tuple[str, str]]:
    return [pair for layer in layers(contract) for pair in itertools.permutations(layer, 2)]


def break_with(root: Path, pairs: list[tuple[str, str]]) -> str:
    """Appends an import to each source module; returns the report of lint-imports."""
    for source, target in pairs:
        path = root / "src" / Path(*source.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        with file.open("a") as out:
            out.write(f"\nimport {target}\n")
    return lint(root)


def lint(root: Path) -> str:
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=root,
        env={"PYTHONPATH": str(root / "src"), "COLUMNS": "1000", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=LINT_SECONDS,
        check=False,
    )
    assert "Contracts:" in run.stdout, run.stdout + run.stderr
    return run.stdout


def broken(report: str) -> list[str]:
    return [
        name for name in CONTRACTS if re.search(rf"^{re.escape(name)} BROKEN", report, re.MULTILINE)
    ]
