"""Walks an OCI layout's documents, from `index.json` down. Pure.

Each document is checked against the digest and size of the descriptor that names it. Its bytes stay
as they were read.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from airside.archive.formats.allowance import Allowance
from airside.archive.formats.docker_manifest import SavedImage
from airside.archive.formats.index_json import IMAGE_NAME, INDEX_JSON, REF_NAME, parse_index_json
from airside.archive.formats.oci_layout import LayoutDraft, blob_member
from airside.archive.formats.plan import ReadHeld, ReadMember
from airside.core.errors import ArchiveLimitError, InputError, ManifestInvalidError
from airside.core.problem import Problem
from airside.oci.digest import digest_of
from airside.oci.model import DOCUMENT_TYPES, Descriptor, Document, Index, parse_document


def walk_layout(
    index_json: bytes,
    *,
    present: frozenset[str],
    read: ReadMember,
    held: ReadHeld,
    allowance: Allowance,
    saved: tuple[SavedImage, ...] = (),
    listed: tuple[str, ...] = (),
    problems: Iterable[Problem] = (),
) -> "DocumentWalk":
    """Walk the documents from `index.json` down. Returns the walk, whose `draft` has them.

    `present` are the names of all members, `saved` the entries of a `manifest.json` beside the
    index and `listed` the names of a `repositories`, with their `problems`. Raises
    ManifestInvalidError for `index.json` itself, and ArchiveLimitError. An invalid document below
    it becomes a problem.
    """
    found: list[Problem] = []
    roots = parse_index_json(index_json, found)
    draft = LayoutDraft(
        roots=roots,
        problems=[*found, *problems],
        present=present,
        saved=saved,
        listed=listed,
        allowance=allowance,
    )
    allowance.take_names(len(roots), "")
    allowance.take_descriptors(len(roots), "")
    walk = DocumentWalk(draft, read, held, allowance.limits.nesting)
    for root in roots:
        walk.visit(root, 0, root.annotations.get(IMAGE_NAME) or root.annotations.get(REF_NAME, ""))
    return walk


@dataclass(slots=True)
class DocumentWalk:
    """Reads documents into a draft, each once."""

    draft: LayoutDraft
    read: ReadMember
    held: ReadHeld
    nesting: int

    def add_root(self, root: Descriptor) -> None:
        """Read a document that `index.json` does not list. Raises ArchiveLimitError."""
        self.draft.allowance.take_names(1, "")
        self.draft.allowance.take_descriptors(1, "")
        self.draft.roots = (*self.draft.roots, root)
        self.visit(root, 0, "")

    def visit(self, descriptor: Descriptor, level: int, shown: str) -> None:
        """Read a document and those below it into the draft. Raises ArchiveLimitError."""
        digest = descriptor.digest
        if digest in self.draft.documents or digest in self.draft.bad:
            return
        if level > self.nesting:
            raise ArchiveLimitError(
                f"indexes are nested more than {self.nesting} deep (limits.nesting)", image=shown
            )
        try:
            document = self._document(descriptor, level=level)
        except InputError as exc:
            self.draft.bad.add(digest)
            self.draft.problems.append(Problem(exc.message, shown, str(digest), exc.code))
            return
        if document is None:
            return
        self.draft.allowance.take_document(document, shown)
        self.draft.documents[digest] = document
        if isinstance(document.content, Index):
            for child in document.content.manifests:
                self.visit(child, level + 1, shown)

    def _document(self, descriptor: Descriptor, *, level: int) -> Document | None:
        """Read and check one document; returns None if it is absent or of no document type.

        Raises ManifestInvalidError.
        """
        member = blob_member(descriptor.digest)
        if descriptor.media_type not in DOCUMENT_TYPES:
            if level == 0:
                raise ManifestInvalidError(
                    f"{INDEX_JSON} lists {descriptor.digest.short} as "
                    f"{descriptor.media_type!r:.120}, which is no manifest or index",
                    blob=descriptor.digest,
                )
            return None
        raw = self.read(member) if member in self.draft.present else self.held(descriptor.digest)
        if raw is None:
            return None
        found = digest_of(raw, descriptor.digest.algorithm)
        if found != descriptor.digest:
            raise ManifestInvalidError(f"member {member} hashes to {found}: its bytes are damaged")
        if len(raw) != descriptor.size_bytes:
            raise ManifestInvalidError(
                f"document {descriptor.digest} has {len(raw)} bytes; "
                f"its descriptor says {descriptor.size_bytes}"
            )
        return parse_document(
            raw,
            descriptor.media_type,
            f"document {descriptor.digest}",
            algorithm=descriptor.digest.algorithm,
        )
