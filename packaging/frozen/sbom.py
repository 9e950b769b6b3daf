"""Writes what is inside a frozen program as a CycloneDX 1.6 document.

Components: the wheels whose modules or files are in it, the Debian packages whose files are in it,
and PyInstaller. Only facts of the build go in, so the same build gives the same bytes.
"""

import ast
import hashlib
import json
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from frozen.architectures import Architecture
from frozen.debian_runtime import SUITE, packages

_ALWAYS = ("libpython3.11-minimal", "libpython3.11-stdlib")
"""Python's own modules are in the bytecode archive."""


def document(
    tree: Path, arch: Architecture, *, version: str, work: Path, downloads: Path, epoch: int
) -> str:
    """Returns the document about `tree`. `work`: where PyInstaller worked."""
    found = [
        *_wheels(downloads / arch.name / "locked", _modules(work), tree),
        *_debian(downloads / arch.name / "runtime", arch, tree),
        *_pyinstaller(downloads / arch.name / "bootloader"),
    ]
    program = f"pkg:generic/airside@{version}?arch={arch.name}"
    found.sort(key=lambda each: str(each["bom-ref"]))
    references = [str(each["bom-ref"]) for each in found]
    sums = "".join(f"{_sha256(p)} {p.relative_to(tree)}\n" for p in _files(tree))
    value = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, sums)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).isoformat(),
            "component": {
                "type": "application",
                "bom-ref": program,
                "name": "airside",
                "version": version,
                "purl": program,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": found,
        "dependencies": [
            {"ref": program, "dependsOn": references},
            *({"ref": reference} for reference in references),
        ],
    }
    return json.dumps(value, indent=1) + "\n"


def _files(tree: Path) -> list[Path]:
    return sorted(path for path in tree.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _modules(work: Path) -> set[str]:
    """The top-level modules in the bytecode archive, as PyInstaller lists them."""
    text = (work / "work/airside/PYZ-00.toc").read_text(encoding="utf-8")
    _, listed, *_ = ast.literal_eval(text)
    return {name.partition(".")[0] for name, *_ in listed}


def _wheels(site: Path, modules: set[str], tree: Path) -> Iterator[dict[str, Any]]:
    present = modules | {path.name for path in (tree / "bin/lib").iterdir()}
    for info in sorted(site.glob("*.dist-info")):
        record = (info / "RECORD").read_text(encoding="utf-8").splitlines()
        tops = {Path(line.partition(",")[0]).parts[0].removesuffix(".py") for line in record}
        tops = {top for top in tops if not top.endswith(".dist-info")} - {"bin", ".."}
        if tops & present or (tops == {"backports"} and "backports" in present):
            yield _python_component(info)


def _pyinstaller(site: Path) -> Iterator[dict[str, Any]]:
    for info in sorted(site.glob("pyinstaller-*.dist-info")):
        yield _python_component(info)


def _python_component(info: Path) -> dict[str, Any]:
    fields = HeaderParser().parsestr((info / "METADATA").read_text(encoding="utf-8"))
    name, version = fields["Name"].lower().replace("_", "-").replace(".", "-"), fields["Version"]
    purl = f"pkg:pypi/{name}@{version}"
    licence = fields.get("License-Expression") or fields.get("License") or ""
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": fields["Name"],
        "version": version,
        "purl": purl,
    }
    if licence and "\n" not in licence:
        found["licenses"] = [{"license": {"name": licence}}]
    return found


def _debian(runtime: Path, arch: Architecture, tree: Path) -> Iterator[dict[str, Any]]:
    names = {path.name for path in tree.rglob("*")}
    for package in packages(runtime):
        name, version = package["Package"], package["Version"]
        deb = next(iter(sorted((runtime / "debs").glob(f"{name}_*.deb"))))
        listed = subprocess.run(
            ["dpkg-deb", "--contents", str(deb)], capture_output=True, text=True, check=True
        ).stdout
        held = {Path(line.split(" -> ")[0].split()[-1]).name for line in listed.splitlines()}
        libraries = {each for each in held if ".so" in each}
        if name in _ALWAYS or libraries & names:
            quoted = version.replace("+", "%2B").replace("~", "%7E").replace(":", "%3A")
            purl = f"pkg:deb/debian/{name}@{quoted}?arch={arch.name}&distro={SUITE}"
            yield {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
                "hashes": [{"alg": "SHA-256", "content": _sha256(deb)}],
            }
