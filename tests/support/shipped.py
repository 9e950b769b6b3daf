"""What `make dist` has built for this tree; `make test-dist` builds it before its tests."""

import platform
from pathlib import Path

import airside

ROOT = Path(__file__).parents[2]
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
OTHER = {"amd64": "arm64", "arm64": "amd64"}[ARCH]
DIST = ROOT / "dist"


def frozen(arch: str = ARCH) -> Path:
    """The directory that lies in /opt/airside once installed."""
    return _built(ROOT / "build/frozen" / arch / "airside", "make frozen")


def run_file(arch: str = ARCH) -> Path:
    """The file that installs itself."""
    return _built(DIST / f"airside-{airside.__version__}-{arch}.run", "make installer")


def _built(path: Path, how: str) -> Path:
    assert path.exists(), f"{path} is absent: run `{how}`"
    return path
