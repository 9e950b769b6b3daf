"""Tag policy: which document a tag should be, given the claims on it. Pure.

A *claim* is "this source says that this tag is this document", with the sequence number that the
source got when its file settled, and the parts (manifests by platform) that it has. What always
holds (ADR 0010):

- for each platform the newest claim of a present source wins, in whatever order they came;
- a claim whose document already lists exactly that is followed byte for byte; only otherwise are
  the parts merged into an index of ours;
- a claim without parts (an artifact, an image of no known platform) is not merged: it is followed
  alone if it is the newest, and ignored otherwise;
- a signature, SBOM or attestation of an archive never takes the tag of anything else (ADR 0032);
- a push is followed byte for byte: older claims are ignored;
- removing an archive does not change a tag at first: its parts stay until a claim newer than the
  removal decides again;
- a rollback decides alone while it is newer than every claim.

A tag that no present source claims keeps its document and is *unbacked*.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClaimedPart:
    """A manifest that the claimed document lists; `platform` is a `Platform.key`.

    `held`: the source has it. `attested`: it is an attestation about this digest, without a
    platform.
    """

    platform: str
    digest: str
    held: bool = True
    attested: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """One source's claim on one tag. `removed_at` is the sequence number of its removal.

    `alone`: it is not merged with older claims (a push). `is_supplement`: the document describes
    another (a signature, an SBOM).
    """

    sequence: int
    digest: str
    source_id: int
    backed: bool
    parts: tuple[ClaimedPart, ...] = ()
    removed_at: int = 0
    alone: bool = False
    is_supplement: bool = False


@dataclass(frozen=True, slots=True)
class Rollback:
    """An operator's decision that a tag is an earlier version."""

    sequence: int
    digest: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The manifest that a tag gets for one platform, and the claim that it comes from."""

    platform: str
    digest: str
    claim: Claim
    attestations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on a tag.

    `digest`: an existing document; empty: the index merged of `parts`. `claim` is the newest claim
    followed, None if nothing claims the tag. Not `backed`: leave the tag as it is.
    """

    claim: Claim | None
    backed: bool
    digest: str = ""
    parts: tuple[Chosen, ...] = ()
    rolled_back: bool = False


def decide_tag(claims: Iterable[Claim], rollback: Rollback | None = None) -> Decision:
    """Decides what the tag is; of the claims of one source the last given wins."""
    counting = _without_supplements(tuple(claims))
    newest_first = sorted(counting, key=lambda claim: (claim.backed, claim.sequence))[::-1]
    if not newest_first or not newest_first[0].backed:
        return Decision(newest_first[0] if newest_first else None, backed=False)
    newest = newest_first[0]
    if rollback is not None and rollback.sequence > newest.sequence:
        return Decision(newest, backed=True, digest=rollback.digest, rolled_back=True)
    counted = _counted(newest_first)
    chosen = _chosen(counted) if _platforms(newest) else {}
    if not chosen:
        return Decision(newest, backed=True, digest=newest.digest)
    digest = next((c.digest for c in counted if _says_all(c, chosen)), "")
    return Decision(newest, backed=True, digest=digest, parts=_attested(chosen, counted))


def _without_supplements(claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
    """Returns the claims without those of archives on the name of what their document describes."""
    others = tuple(claim for claim in claims if claim.alone or not claim.is_supplement)
    return others or claims


def _counted(newest_first: list[Claim]) -> list[Claim]:
    """Returns the claims that count, down to the newest push."""
    newest, counted = newest_first[0], []
    for claim in newest_first:
        if claim.backed or (claim.removed_at > newest.sequence and claim.parts):
            counted.append(claim)
        if claim.backed and claim.alone:
            break
    return counted


def _chosen(newest_first: list[Claim]) -> dict[str, Chosen]:
    """Returns the manifest of the newest claim for each platform."""
    chosen: dict[str, Chosen] = {}
    for claim in newest_first:
        for part in claim.parts:
            if part.held and not part.attested and part.platform not in chosen:
                chosen[part.platform] = Chosen(part.platform, part.digest, claim)
    return chosen


def _platforms(claim: Claim) -> bool:
    return any(part.held and not part.attested for part in claim.parts)


def _says_all(claim: Claim, chosen: dict[str, Chosen]) -> bool:
    """Returns True if the claimed document lists each chosen part first for its platform."""
    listed: dict[str, str] = {}
    for part in claim.parts:
        if not part.attested:
            listed.setdefault(part.platform, part.digest)
    return all(listed.get(platform) == one.digest for platform, one in chosen.items())


def _attested(chosen: dict[str, Chosen], counted: list[Claim]) -> tuple[Chosen, ...]:
    """Returns the chosen parts by platform, each with every held attestation about it."""
    about: dict[str, set[str]] = {}
    for claim in counted:
        for part in claim.parts:
            if part.attested and part.held:
                about.setdefault(part.attested, set()).add(part.digest)
    return tuple(
        Chosen(one.platform, one.digest, one.claim, tuple(sorted(about.get(one.digest, ()))))
        for _, one in sorted(chosen.items())
    )
