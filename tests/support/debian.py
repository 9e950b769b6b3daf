"""Programs of other Debian suites: fetched by apt, unpacked beside the host, never installed.

The host's own Debian source with another suite in its place, in a private configuration of apt.
Packages are unpacked with `dpkg -x` below `~/.cache/airside-tests`; what is there is used again.
"""

import fcntl
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FETCH_SECONDS = 300.0


_unreachable: dict[str, str] = {}
"""Suites that could not be had, and why: they are not asked again."""


class UnreachableError(Exception):
    """A package cannot be had here; the text says why."""


def unpacked(suite: str, package: str) -> Path:
    """The directory with the unpacked package. Raises UnreachableError."""
    root = cache() / suite / package
    if root.is_dir():
        return root
    if suite in _unreachable:
        raise UnreachableError(_unreachable[suite])
    root.parent.mkdir(parents=True, exist_ok=True)
    with (root.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if not root.is_dir():
                _fetch(suite, package, root)
        except UnreachableError as exc:
            _unreachable[suite] = f"{package} of Debian's {suite} cannot be had: {exc}"
            raise UnreachableError(_unreachable[suite]) from exc
    return root


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/var/tmp")) / ".cache"
    return Path(home) / "airside-tests"


def _fetch(suite: str, package: str, root: Path) -> None:
    config = updated(suite)
    scratch = root.with_name(f".{package}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "root").mkdir(parents=True)
    # of that suite, even where a newer version from elsewhere is installed
    run("apt-get", "-q", "-c", config, "download", f"{package}/{suite}", cwd=scratch)
    [file] = scratch.glob("*.deb")
    run("dpkg", "-x", file, scratch / "root")
    (scratch / "root").rename(root)
    shutil.rmtree(scratch)


@functools.cache
def updated(suite: str) -> Path:
    """A configuration of apt whose package lists are those of the suite, fetched now.

    Raises UnreachableError.
    """
    directory = cache() / suite / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    (directory / "sources.list").write_text(f"deb {signed}{mirror()} {suite} main\n")
    config = directory / "apt.conf"
    config.write_text(
        f'Dir::Etc::sourcelist "{directory}/sources.list";\n'
        'Dir::Etc::sourceparts "-";\n'
        f'Dir::State::lists "{directory}/lists";\n'
        f'Dir::Cache "{directory}/cache";\n'
        'APT::Sandbox::User "root";\n'
        'Acquire::Languages "none";\n'
        'Acquire::Retries "1";\n'
        'Acquire::http::Timeout "20";\n'
        'Acquire::https::Timeout "20";\n'
        'APT::Update::Error-Mode "any";\n'
    )
    run("apt-get", "-q", "-c", config, "update")
    return config


def mirror() -> str:
    """Where the host takes Debian from."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise UnreachableError("no apt-get and dpkg here")
    listed = run("apt-get", "indextargets", "Created-By: Packages")
    for target in _stanzas(listed):
        uri = target.get("Repo-URI", "")
        ours = target.get("Origin") == "Debian" or uri.rstrip("/").endswith("/debian")
        if ours and target.get("Component") == "main" and "-" not in target.get("Release", "-"):
            return uri
    raise UnreachableError("apt has no source of Debian here")


def _stanzas(text: str) -> Iterator[Mapping[str, str]]:
    for block in text.split("\n\n"):
        yield dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)


def run(*words: object, cwd: Path | None = None) -> str:
    """Returns what a command printed. Raises UnreachableError."""
    command = [str(word) for word in words]
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=FETCH_SECONDS,
        )
    except subprocess.TimeoutExpired as exc:
        raise UnreachableError(f"{' '.join(command)}: no end after {FETCH_SECONDS} s") from exc
    if done.returncode:
        raise UnreachableError(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
    return done.stdout
