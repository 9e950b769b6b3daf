"""Documents as values, without bytes that could be parsed: for the tests of pure choices."""

from airside.oci.digest import digest_of
from airside.oci.model import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Document,
    Index,
    Manifest,
)
from airside.oci.platform import Platform


def blob(text: str, media_type: str = OCI_LAYER) -> Descriptor:
    return Descriptor(media_type, digest_of(text.encode()), len(text))


def manifest(name: str, *, layer_type: str = OCI_LAYER, config_type: str = OCI_CONFIG) -> Document:
    layers = (blob(f"{name}-1", layer_type), blob(f"{name}-2", layer_type))
    content = Manifest(blob(f"{name}-config", config_type), layers)
    return Document(OCI_MANIFEST, name.encode(), digest_of(name.encode()), content)


def index(name: str, *children: tuple[Document, Platform | None]) -> Document:
    listed = tuple(
        Descriptor(child.media_type, child.digest, child.size_bytes, platform)
        for child, platform in children
    )
    return Document(OCI_INDEX, name.encode(), digest_of(name.encode()), Index(listed))


AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
APP = manifest("app")
OTHER = manifest("other")
BOTH = index("both", (OTHER, ARM64), (APP, AMD64))
