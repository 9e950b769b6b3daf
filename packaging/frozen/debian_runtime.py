"""Python 3.11 and its shared libraries for any architecture, from Debian 12's packages.

Fetched by apt with a private configuration and unpacked below the build directory: nothing of the
host is used or changed, and the host may be another release or another architecture. apt verifies
the signatures.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frozen.architectures import Architecture

SUITE = "bookworm"
PACKAGES = (
    "python3.11-minimal",
    "libpython3.11",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libsqlite3-0",
    "zlib1g",
    "libbz2-1.0",
    "liblzma5",
    "libffi8",
    "libuuid1",
    "libexpat1",
    "libgcc-s1",
    "libstdc++6",
    "patchelf",
)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TRIES = 3


def unpack_runtime(arch: Architecture, directory: Path, names: Sequence[str] = PACKAGES) -> Path:
    """Fetch and unpack packages. Returns the root that has `usr`; `debs` is beside it.

    What is there already is used again if it was made for the same names.
    """
    root, stamp = directory / "root", directory / "names"
    inputs = " ".join((SUITE, arch.name, *names))
    if root.is_dir() and stamp.is_file() and stamp.read_text(encoding="ascii") == inputs:
        return root
    shutil.rmtree(directory, ignore_errors=True)
    config = _configure(arch, directory / "apt")
    debs = directory / "debs"
    debs.mkdir(parents=True)
    _run("apt-get", "-q", "-c", config, "update")
    _run("apt-get", "-q", "-c", config, "download", *names, cwd=debs)
    scratch = directory / "root.part"
    scratch.mkdir()
    for deb in sorted(debs.glob("*.deb")):
        _run("dpkg", "-x", deb, scratch)
    stamp.write_text(inputs, encoding="ascii")
    scratch.rename(root)
    return root


def packages(directory: Path) -> list[dict[str, str]]:
    """Returns the fields of each unpacked package: Package, Version, Source."""
    found = []
    for deb in sorted((directory / "debs").glob("*.deb")):
        text = _run("dpkg-deb", "-f", deb)
        fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        found.append({key: fields.get(key, "") for key in ("Package", "Version", "Source")})
    return found


def _configure(arch: Architecture, directory: Path) -> Path:
    for name in ("lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True)
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    lines = [f"deb {signed}{uri} {suite} main\n" for uri, suite in _sources()]
    (directory / "sources.list").write_text("".join(lines), encoding="utf-8")
    config = directory / "apt.conf"
    config.write_text(
        f'APT::Architecture "{arch.name}";\n'
        f'APT::Architectures {{ "{arch.name}"; }};\n'
        'Dir::State::status "/dev/null";\n'
        f'Dir::Etc::sourcelist "{directory}/sources.list";\n'
        'Dir::Etc::sourceparts "-";\n'
        f'Dir::State::lists "{directory}/lists";\n'
        f'Dir::Cache "{directory}/cache";\n'
        'APT::Sandbox::User "root";\n'
        'Acquire::Languages "none";\n'
        f'Acquire::Retries "{_TRIES}";\n'
        'APT::Update::Error-Mode "any";\n',
        encoding="utf-8",
    )
    return config


def _sources() -> Iterator[tuple[str, str]]:
    """Where this host's apt takes Debian from, with our suite in the place of the host's."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise SystemExit("frozen: apt-get and dpkg are needed: build on Debian or Ubuntu")
    seen = set()
    for target in _stanzas(_run("apt-get", "indextargets", "Created-By: Packages")):
        uri, release = target.get("Repo-URI", ""), target.get("Codename", "")
        if target.get("Origin") != "Debian" or target.get("Component") != "main":
            continue
        suffix = "-security" if "-security" in release else ""
        if uri and suffix not in seen:
            seen.add(suffix)
            yield uri, SUITE + suffix
    if "" not in seen:
        raise SystemExit("frozen: apt has no source of Debian here: see docs/packages.md")


def _stanzas(text: str) -> Iterator[Mapping[str, str]]:
    for block in text.split("\n\n"):
        yield dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)


def _run(*words: object, cwd: Path | None = None) -> str:
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"frozen: {' '.join(command)}: {done.stderr.strip()[-600:]}")
    return done.stdout
