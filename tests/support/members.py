"""An archive as a mapping of its members: what the pure planners are given."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from airside.archive.completeness import Judgement, judge
from airside.archive.formats.allowance import Allowance
from airside.archive.formats.detect import make_draft
from airside.archive.formats.plan import Draft, Facts, Plan
from airside.archive.ingest import HEAD_BYTES, digest_of_member
from airside.archive.writer.member import Member
from airside.core.settings import Limits
from airside.oci.digest import Digest, digest_of


@dataclass(frozen=True)
class Members:
    """Files by name, and links with their targets."""

    files: Mapping[str, bytes]
    links: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[Digest, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, members: Iterable[Member]) -> Self:
        """Of what the writer would write."""
        files, links = {}, {}
        for member in members:
            if member.blob is not None:
                with member.blob.open() as stream:
                    files[member.name] = stream.read()
            elif member.target:
                links[member.name] = member.target.removeprefix("../")
        return cls(files, links)

    def with_file(self, name: str, data: bytes) -> Self:
        return replace(self, files={**self.files, name: data})

    def without(self, *names: str) -> Self:
        return replace(self, files={n: d for n, d in self.files.items() if n not in names})

    def read(self, name: str) -> bytes:
        return self.files[name]

    def facts(self) -> dict[str, Facts]:
        found = {}
        for name, data in self.files.items():
            promised = digest_of_member(name)
            digest = digest_of(data, promised.algorithm if promised else "sha256")
            found[name] = Facts(digest, len(data), data[:HEAD_BYTES])
        return found

    def draft(self, *, nesting: int = 4) -> Draft:
        return make_draft(
            files=frozenset(self.files),
            links=self.links,
            read=self.read,
            held=self.held.get,
            allowance=Allowance(replace(Limits(), nesting=nesting)),
        )

    def plan(self, *, nesting: int = 4) -> Plan:
        draft = self.draft(nesting=nesting)
        facts = self.facts()
        return draft.assemble({name: facts[name] for name in draft.members}, self.read)

    def judged(self, *, strict: bool = False) -> Judgement:
        plan = self.plan()
        sizes = {facts.digest: facts.size_bytes for facts in self.facts().values()}
        return judge(plan, sizes.get, strict=strict)
