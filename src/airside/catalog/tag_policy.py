"""Desired state: which document a tag should be, given who claims it. Pure.

A *claim* is "this source says that this tag is this document", with the sequence number that the
source got when its file settled, and the parts (manifests by platform) that it brought. What holds
(design 4.14):

- for each platform the newest claim of a present source wins, whatever came in which order;
- a claim whose document already says all of that is followed byte for byte; only otherwise the
  parts are merged into an index of ours;
- a claim without parts (an artifact, an image of no known platform) is not merged: the newest wins
  alone, or counts for nothing;
- a push is followed byte for byte: what is older than it says nothing any more;
- removing an archive takes nothing from a tag for now: its parts stay until a claim that is newer
  than the removal decides anew;
- a rollback decides alone while it is newer than every claim.

A tag that no present source claims keeps what it has and is *unbacked*.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClaimedPart:
    """A manifest that the claimed document lists; `platform` is a `Platform.key`.

    `held`: the source brought it. `attested`: it is an attestation about this digest, without a
    platform.
    """

    platform: str
    digest: str
    held: bool = True
    attested: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """One source's word about one tag. `removed_at` is the sequence number of its removal.

    `alone`: it is not joined with older ones (a push).
    """

    sequence: int
    digest: str
    source_id: int
    backed: bool
    parts: tuple[ClaimedPart, ...] = ()
    removed_at: int = 0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Rollback:
    """An operator's word that a tag is what it was before."""

    sequence: int
    digest: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a tag has for one platform, and whose it is."""

    platform: str
    digest: str
    claim: Claim
    attestations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What the tag should be.

    `digest`: an existing document; empty: the index merged of `parts`. `claim` is the newest one
    followed; None: nothing claims the tag. Not `backed`: leave the tag as it is.
    """

    claim: Claim | None
    backed: bool
    digest: str = ""
    parts: tuple[Chosen, ...] = ()
    rolled_back: bool = False


def decide_tag(claims: Iterable[Claim], rollback: Rollback | None = None) -> Decision:
    """Choose what the tag is; of one source's claims the last given wins."""
    newest_first = sorted(claims, key=lambda claim: (claim.backed, claim.sequence))[::-1]
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


def _counted(newest_first: list[Claim]) -> list[Claim]:
    """The claims that have a say, down to the newest push."""
    newest, counted = newest_first[0], []
    for claim in newest_first:
        if claim.backed or (claim.removed_at > newest.sequence and claim.parts):
            counted.append(claim)
        if claim.backed and claim.alone:
            break
    return counted


def _chosen(newest_first: list[Claim]) -> dict[str, Chosen]:
    """For each platform what the newest claim has."""
    chosen: dict[str, Chosen] = {}
    for claim in newest_first:
        for part in claim.parts:
            if part.held and not part.attested and part.platform not in chosen:
                chosen[part.platform] = Chosen(part.platform, part.digest, claim)
    return chosen


def _platforms(claim: Claim) -> bool:
    return any(part.held and not part.attested for part in claim.parts)


def _says_all(claim: Claim, chosen: dict[str, Chosen]) -> bool:
    """Whether the claimed document lists what was chosen, as the first for each platform."""
    listed: dict[str, str] = {}
    for part in claim.parts:
        if not part.attested:
            listed.setdefault(part.platform, part.digest)
    return all(listed.get(platform) == one.digest for platform, one in chosen.items())


def _attested(chosen: dict[str, Chosen], counted: list[Claim]) -> tuple[Chosen, ...]:
    """The chosen parts by platform, each with every held attestation about it."""
    about: dict[str, set[str]] = {}
    for claim in counted:
        for part in claim.parts:
            if part.attested and part.held:
                about.setdefault(part.attested, set()).add(part.digest)
    return tuple(
        Chosen(one.platform, one.digest, one.claim, tuple(sorted(about.get(one.digest, ()))))
        for _, one in sorted(chosen.items())
    )
