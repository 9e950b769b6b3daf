"""Desired state: which version a tag should point at, given who claims it. Pure.

A *claim* is "this source says that this tag is this document", with the sequence number that the
source got when its file settled. The newest claim of a present source wins (design 4.13); a tag
that no present source claims keeps what it has and is *unbacked*. Merging of claims for different
platforms belongs here too.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One source's word about one tag."""

    sequence: int
    digest: str
    source_id: int
    backed: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What the tag should be; None: nothing claims it, leave it and count it as unbacked."""

    claim: Claim | None
    backed: bool


def decide_tag(claims: Iterable[Claim]) -> Decision:
    """Choose the claim that the tag follows; of one source's claims the last given wins."""
    ordered = sorted(claims, key=lambda claim: claim.sequence)
    backed = [claim for claim in ordered if claim.backed]
    if backed:
        return Decision(backed[-1], backed=True)
    return Decision(ordered[-1] if ordered else None, backed=False)
