"""Airside's own image, as `make image` builds it: `make test-dist` runs that first."""

from pathlib import Path

import airside
from airside.oci.platform import node_platform

ROOT = Path(__file__).parents[2]
NAME = f"airside.internal/airside:{airside.__version__}"


def own_image(architecture: str | None = None) -> Path:
    """The archive for an architecture, this machine's without one; "" is that with all."""
    name = node_platform().architecture if architecture is None else architecture
    file = ROOT / "dist" / f"airside-image-{airside.__version__}{f'-{name}' if name else ''}.tar"
    assert file.exists(), f"{file} is absent: run `make image`"
    return file
