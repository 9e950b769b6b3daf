"""Retention: which tags and versions expire by the rules of their repository, and why. Pure.

A *rule* says what expires in the repositories of its patterns. The first rule that covers a
repository decides alone; what no rule covers stays (ADR 0020). What always holds, whatever a rule
says: a tag that a present archive claims stays, since the archive in its directory says that the
image is here; so does a tag that a source of another kind than the rule's `sources` claims. Under
pressure (`Pressure`), earlier versions and unbacked images expire before their time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airside.core.errors import ConfigError
from airside.core.settings import RetentionRule
from airside.oci.patterns import Pattern, parse_pattern

LOW_SPACE = "the disk is nearly full (low_space_bytes, low_space_percent)"
_UNUSED = "it came from an upstream registry and no client asked for it (upstream_keep_seconds)"
_UNBACKED = "unbacked for longer than unbacked_after_seconds: no archive has it"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the settings, with parsed patterns. `number` counts from 1."""

    number: int
    repositories: tuple[Pattern, ...]
    keep_tags: tuple[Pattern, ...]
    said: RetentionRule

    def covers(self, repository: str) -> bool:
        return any(pattern.matches(repository) for pattern in self.repositories)

    @property
    def name(self) -> str:
        return f"retention rule {self.number} ({', '.join(map(str, self.repositories))})"

    @property
    def takes_tags(self) -> bool:
        return self.said.keep_last is not None or self.said.older_than_seconds is not None


@dataclass(frozen=True, slots=True)
class Pressure:
    """Expiry before the time: of versions replaced and of images unbacked before these times."""

    generations_before: float = float("-inf")
    unbacked_before: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of one collection, at the time `now`."""

    now: float
    retention: int
    unbacked_after_seconds: float
    grace_seconds: float = 0.0
    rules: tuple[Rule, ...] = ()
    pressure: Pressure = Pressure()
    upstream_keep_seconds: float = float("inf")

    def rule_of(self, repository: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.covers(repository)), None)

    @property
    def pushed_since(self) -> float:
        """Blobs and manifests pushed after this time stay, even if nothing needs them."""
        return self.now - self.grace_seconds

    @property
    def unbacked_before(self) -> float:
        """Images unbacked before this time expire."""
        return max(self.now - self.unbacked_after_seconds, self.pressure.unbacked_before)

    @property
    def unused_before(self) -> float:
        """Images from an upstream registry that were last asked for before this time expire."""
        return max(self.now - self.upstream_keep_seconds, self.pressure.unbacked_before)

    def why_unused(self, since: float) -> str:
        """Returns why an image from an upstream registry expires."""
        if since <= self.now - self.upstream_keep_seconds:
            return _UNUSED
        return f"it can be pulled from its registry again, and {LOW_SPACE}"

    def why_unbacked(self, since: float) -> str:
        if since <= self.now - self.unbacked_after_seconds:
            return _UNBACKED
        return f"no archive has it, and {LOW_SPACE}"


@dataclass(frozen=True, slots=True)
class TagAge:
    """A tag of a repository. `backed_by`: the kinds of the sources that claim it now."""

    tag: str
    moved_at: float
    backed_by: frozenset[str]
    is_unbacked: bool


@dataclass(frozen=True, slots=True)
class VersionAge:
    """An earlier version of a tag; `age` is 1 for the one before the current."""

    age: int
    replaced_at: float
    pushed: bool = False


def read_rules(said: Iterable[RetentionRule]) -> tuple[Rule, ...]:
    """Parses the patterns of the settings' rules. Raises ConfigError."""
    return tuple(_read(number, rule) for number, rule in enumerate(said, 1))


def _read(number: int, said: RetentionRule) -> Rule:
    try:
        repositories = tuple(map(parse_pattern, said.repositories))
        tags = tuple(map(parse_pattern, said.keep_tags))
    except ValueError as exc:
        raise ConfigError(f"retention_rules: {exc}", key="retention_rules") from exc
    return Rule(number, repositories, tags, said)


def expired_tags(rule: Rule, tags: Iterable[TagAge], now: float) -> list[tuple[TagAge, str]]:
    """Returns the tags of one repository that the rule expires, with the reason, newest first."""
    if not rule.takes_tags:
        return []
    others = [tag for tag in tags if not any(p.matches(tag.tag) for p in rule.keep_tags)]
    others.sort(key=lambda tag: (-tag.moved_at, tag.tag))
    return [
        (tag, _why(rule))
        for tag in others[rule.said.keep_last or 0 :]
        if _is_old(tag.moved_at, rule.said.older_than_seconds, now) and _may_go(rule, tag)
    ]


def _may_go(rule: Rule, tag: TagAge) -> bool:
    return tag.is_unbacked or (bool(tag.backed_by) and tag.backed_by <= set(rule.said.sources))


def _is_old(since: float, limit_seconds: float | None, now: float) -> bool:
    return limit_seconds is None or since <= now - limit_seconds


def _why(rule: Rule) -> str:
    said, limits = rule.said, []
    if said.keep_last is not None:
        limits.append(f"it is not among the newest {said.keep_last} tags (keep_last)")
    if said.older_than_seconds is not None:
        limits.append(f"it moved longer ago than {said.older_than_seconds:g} s")
    return f"{rule.name}: {' and '.join(limits)}"


def why_version_goes(policy: Policy, rule: Rule | None, version: VersionAge) -> str:
    """Returns why an earlier version expires; empty if it stays.

    A pushed version stays for the grace time after it was replaced.
    """
    if version.pushed and version.replaced_at > policy.pushed_since:
        return ""
    kept, origin, limit = policy.retention, "retention", None
    if rule is not None:
        limit = rule.said.untagged_seconds
        if rule.said.generations is not None:
            kept, origin = rule.said.generations, f"generations of {rule.name}"
    if version.age > kept and _is_old(version.replaced_at, limit, policy.now):
        return f"replaced: of earlier versions {kept} are kept ({origin})"
    if version.replaced_at <= policy.pressure.generations_before:
        return f"replaced by a later version, and {LOW_SPACE}"
    return ""


def why_untagged_goes(policy: Policy, rule: Rule | None, since: float) -> str:
    """Returns why a manifest pushed by digest expires if nothing leads to it; empty if not."""
    limit = rule.said.untagged_seconds if rule is not None else None
    if rule is None or limit is None or since > policy.pushed_since:
        return ""
    if not _is_old(since, limit, policy.now):
        return ""
    return f"{rule.name}: no tag or index leads to it, for longer than {limit:g} s"


def next_pressure(versions: Sequence[float], unbacked: Sequence[float], count: int) -> Pressure:
    """Returns the pressure that expires the `count` oldest: versions first, then unbacked images.

    `versions`: when each was replaced; `unbacked`: since when each is. One of both is not empty.
    """
    versions, unbacked = sorted(versions), sorted(unbacked)
    if versions and (count <= len(versions) or not unbacked):
        return Pressure(generations_before=versions[min(count, len(versions)) - 1])
    before = versions[-1] if versions else float("-inf")
    left = min(max(count - len(versions), 1), len(unbacked))
    return Pressure(before, unbacked[left - 1])
