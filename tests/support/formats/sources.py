"""What the real tools are given: layouts and archives of our builders, and directories to build."""

import hashlib
import random
from pathlib import Path
from typing import Any

from airside.oci.model import OCI_INDEX, OCI_MANIFEST
from support.formats.row import Make, name_of
from support.formats.workshop import Workshop
from support.images import (
    TestImage,
    TestIndex,
    compact,
    docker_archive,
    oci_layout,
    random_image,
    random_index,
)
from support.skopeo import run, skopeo

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7")


def one(directory: Path, key: str, **more: Any) -> str:
    """An image in the layout `source`; gives its reference for skopeo and its kin."""
    return _layout(directory, key, random_image(key, **more))


def several_platforms(directory: Path, key: str) -> str:
    return _layout(directory, key, random_index(key, PLATFORMS, compression="gzip"))


def _layout(directory: Path, key: str, image: TestImage | TestIndex) -> str:
    oci_layout(directory / "source", {name_of(key): image})
    return f"oci:{directory / 'source'}:{name_of(key)}"


def pair(key: str) -> dict[tuple[str, ...], TestImage]:
    """Two images by names; the second has the layers of the first below its own."""
    base = random_image(key, media="docker")
    other = random_image(f"{key}/2", media="docker", base=base.layers, layers=1)
    return {(name_of(key), f"docker.io/acme/{key}:latest"): base, (name_of(key, 2),): other}


def saved_pair(directory: Path, key: str) -> Path:
    """`pair` as an archive that every tool loads."""
    docker_archive(directory / "pair.tar", pair(key), style="skopeo")
    return directory / "pair.tar"


def context(directory: Path, key: str) -> Path:
    """A directory to build an image from, without a base and without a step that runs."""
    made = directory / "context"
    made.mkdir()
    (made / "data").write_bytes(random.Random(key).randbytes(20_000))
    (made / "Dockerfile").write_text('FROM scratch\nCOPY data /data\nCMD ["/data"]\n')
    return made


def push(shop: Workshop, source: str, key: str, *, form: str = "") -> str:
    """Into a registry, as it is or in another form; gives the name there."""
    name = f"{shop.registry}/{key}:1"
    keep = [f"--format={form}"] if form else ["--preserve-digests"]
    copy = ("copy", "--quiet", "--all", *keep, "--dest-tls-verify=false")
    skopeo(*copy, source, f"docker://{name}")
    return name


def packed(directory: Path) -> Path:
    """A layout directory as `tar -C DIR .` packs it."""
    out = directory.with_name(f"{directory.name}.tar")
    run("tar", "-C", directory, "-cf", out, ".")
    return out


def tarred(make: Make) -> Make:
    """The same, not as the directory that is made."""

    def make_tar(shop: Workshop, directory: Path, key: str) -> Path:
        return packed(make(shop, directory, key))

    return make_tar


class Layout:
    """A layout directory written document by document, for what no tool at hand writes."""

    def __init__(self, directory: Path, *, algorithm: str = "sha256") -> None:
        self.directory, self._algorithm = directory, algorithm
        (directory / "blobs" / algorithm).mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def add(self, raw: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """A blob; gives its descriptor."""
        name = hashlib.new(self._algorithm, raw).hexdigest()
        (self.directory / "blobs" / self._algorithm / name).write_bytes(raw)
        digest = f"{self._algorithm}:{name}"
        return {"mediaType": media_type, "digest": digest, "size": len(raw), **more}

    def document(self, media_type: str, **fields: Any) -> dict[str, Any]:
        return self.add(
            compact({"schemaVersion": 2, "mediaType": media_type, **fields}), media_type
        )

    def image(self, image: TestImage, *more_layers: dict[str, Any]) -> dict[str, Any]:
        layers = [self.add(layer.raw, layer.media_type) for layer in image.layers]
        config = self.add(image.config.raw, image.config.media_type)
        return self.document(OCI_MANIFEST, config=config, layers=[*layers, *more_layers])

    def close(self, *roots: dict[str, Any], name: str = "") -> Path:
        """Write the index; the first root has the name."""
        first = {**roots[0], "annotations": {"org.opencontainers.image.ref.name": name}}
        entries = [first if name else roots[0], *roots[1:]]
        (self.directory / "index.json").write_bytes(
            compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
        )
        return self.directory


def longest_names(directory: Path, key: str) -> Path:
    """A layout directory whose blobs are named by their sha512."""
    made = Layout(directory / "layout", algorithm="sha512")
    return made.close(made.image(random_image(key)), name=name_of(key))
