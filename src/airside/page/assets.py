"""The page's own files: style, script, icon, and the library that `frontend/` pins.

An asset's address has the digest of its bytes, so browsers may keep it for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

DIRECTORY = Path(__file__).parent / "assets"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. `digest` is the start of its SHA-256 in hex."""

    body: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class Assets:
    """The files that are there: without the library the page is whole."""

    by_name: Mapping[str, Asset]

    @property
    def addresses(self) -> dict[str, str]:
        return {name: address_of(name, asset) for name, asset in self.by_name.items()}

    def find(self, file: str) -> Asset | None:
        """Returns the asset of the last part of an address; None for an old or unknown one."""
        stem, _, suffix = file.rpartition(".")
        name, _, digest = stem.rpartition(".")
        asset = self.by_name.get(f"{name}.{suffix}")
        return asset if asset is not None and asset.digest == digest else None


def address_of(name: str, asset: Asset) -> str:
    stem, _, suffix = name.rpartition(".")
    return f"/ui/assets/{stem}.{asset.digest}.{suffix}"


def load_assets(directory: Path = DIRECTORY) -> Assets:
    """Reads the files. Raises OSError."""
    found = {}
    for path in sorted(directory.iterdir()):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            found[path.name] = Asset(body, _TYPES[path.suffix], sha256(body).hexdigest()[:16])
    return Assets(found)
