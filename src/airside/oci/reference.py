"""Image names: repository + tag or digest.

The grammar is that of `distribution/reference`, which Docker and containerd use; names without a
host are normalised as Docker does (`busybox` is `docker.io/library/busybox:latest`).
A repository is identified by (registry host, path); `index.docker.io` is `docker.io`.
"""

import re
from dataclasses import dataclass, replace

from airside.core.errors import DigestInvalidError, ReferenceInvalidError
from airside.oci.digest import Digest, parse_digest

DEFAULT_HOST = "docker.io"
MAX_REPOSITORY_LENGTH = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9a-fA-F:.]+\])(?::[0-9]{{1,5}})?\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_IMAGE_ID = re.compile(r"(?:sha256|sha512):[0-9a-f]{64,128}\Z")
# image-spec annotations.md, the grammar of org.opencontainers.image.ref.name
_REF_NAME = re.compile(
    r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*\Z"
)


@dataclass(frozen=True, slots=True, order=True)
class Repository:
    """(host, path). The host is empty only for a repository that was pushed without one."""

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}/{self.path}" if self.host else self.path


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A repository with a tag, a digest, or both. With both, only the digest counts."""

    repository: Repository
    tag: str = ""
    digest: Digest | None = None

    @property
    def without_digest(self) -> "Reference":
        """The reference with its tag alone; itself if it has no tag."""
        return replace(self, digest=None) if self.tag else self

    def __str__(self) -> str:
        text = str(self.repository)
        if self.tag:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text


def parse_reference(text: object, *, default_tag: str = "latest") -> Reference:
    """Parse and normalise an image name as Docker does. Raises ReferenceInvalidError."""
    if not isinstance(text, str) or not text:
        raise ReferenceInvalidError(f"an image name must be a string, found {text!r:.80}")
    name, _, digest_text = text.partition("@")
    digest = _digest(digest_text, text) if "@" in text else None
    slash = name.rfind("/")
    colon = name.find(":", slash + 1)
    tag = name[colon + 1 :] if colon >= 0 else ""
    name = name[:colon] if colon >= 0 else name
    if colon >= 0 and not is_tag(tag):
        raise ReferenceInvalidError(
            f"image name {text[:300]!r} has an invalid tag", found=text[:300]
        )
    if not tag and digest is None:
        tag = default_tag
    return Reference(parse_repository(name, shown=text), tag, digest)


def parse_repository(name: str, *, shown: str | None = None) -> Repository:
    """Parse `[host/]path`, with Docker's default host and `library/`. Raises ReferenceInvalidError.

    `shown` is the whole image name for the error.
    """
    host, _, path = name.partition("/")
    if not path or not looks_like_host(host):
        host, path = DEFAULT_HOST, name
    if host == "index.docker.io":
        host = DEFAULT_HOST
    if host == DEFAULT_HOST and "/" not in path:
        path = f"library/{path}"
    if not is_host(host) or not is_path(path) or len(host) + 1 + len(path) > MAX_REPOSITORY_LENGTH:
        found = (shown or name)[:300]
        hint = "a repository is lower case" if found != found.lower() else None
        raise ReferenceInvalidError(f"invalid image name {found!r}", found=found, hint=hint)
    return Repository(host, path)


def _digest(digest_text: str, text: str) -> Digest:
    try:
        return parse_digest(digest_text)
    except DigestInvalidError as exc:
        raise ReferenceInvalidError(
            f"image name {text[:300]!r} has an invalid digest", found=text[:300]
        ) from exc


def looks_like_host(component: str) -> bool:
    """Returns True if Docker reads the first component as a host.

    That is one with a dot, a port or upper case, and `localhost`.
    """
    return (
        "." in component
        or ":" in component
        or component == "localhost"
        or component != component.lower()
    )


def is_host(text: str) -> bool:
    """Returns True for a valid registry host, with or without a port."""
    return bool(_HOST.match(text))


def is_path(text: str) -> bool:
    """Returns True for a repository path, the `<name>` of the distribution spec."""
    return len(text) <= MAX_REPOSITORY_LENGTH and bool(_PATH.match(text))


def is_tag(text: str) -> bool:
    """Returns True for a valid tag, the `<reference>` of the distribution spec."""
    return bool(_TAG.match(text))


def is_image_id(text: str) -> bool:
    """Returns True for a bare digest, as containerd's CRI records an image's config digest."""
    return bool(_IMAGE_ID.match(text))


def fits_ref_name(text: str) -> bool:
    """Returns True if the text fits the grammar of `org.opencontainers.image.ref.name`."""
    return bool(_REF_NAME.match(text))
