"""Access rules: the rights that a request needs, and the decision whether it has them. Pure.

A request needs an action (`pull`, `push`, `delete`) on a repository; mounting a blob also needs
`pull` on its source. Rules match the full name `host/path`, as the catalog has it. A short path in
a URL is judged by the repositories that it may mean.

Always holds:

- A read sees only the repositories that the client may pull (`registry.rules.visibility`), so that
  an ambiguous path never bypasses a rule.
- A write needs the right to every repository that it may change: the target of a push, and for a
  deletion all that exist under the name. A blob is mounted only from repositories that the client
  may pull; else it is uploaded.
- Requests are parsed here by the parsers of the code that answers them, so that both agree.

A `RegistryView` is asked, which may block. Passwords and tokens are left to
`registry.rules.accounts`, waiting and answering to `registry.http.middleware`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias
from urllib.parse import unquote

from airside.oci.patterns import Pattern
from airside.oci.reference import Repository
from airside.ports.content import RegistryView
from airside.registry.rules.answers import Answer
from airside.registry.rules.names import Name, candidates, push_target
from airside.registry.rules.requests import ListCatalog, Ping, parse_request
from airside.registry.rules.web_pages import PAGE
from airside.registry.rules.writes import (
    DeleteBlob,
    DeleteManifest,
    MountBlob,
    Write,
    is_write,
    parse_write,
)

Action: TypeAlias = Literal["pull", "push", "delete"]
Verdict: TypeAlias = Literal["allowed", "partly", "denied"]
"""`partly`: for some of the repositories that the name may mean; the client sees only these."""

ACTIONS: tuple[Action, ...] = ("pull", "push", "delete")
READING = frozenset({"GET", "HEAD"})


# --- rules


@dataclass(frozen=True, slots=True)
class Rule:
    """Actions on the repositories of these patterns (`airside.oci.patterns`)."""

    repositories: tuple[str, ...]
    actions: frozenset[Action]

    def covers(self, action: Action, repository: Repository) -> bool:
        name = str(repository)
        return action in self.actions and any(_matches(p, name) for p in self.repositories)


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights that several rules grant together; none without rules."""

    rules: tuple[Rule, ...] = ()

    def may(self, action: Action, repository: Repository) -> bool:
        return any(rule.covers(action, repository) for rule in self.rules)

    def may_everywhere(self, action: Action) -> bool:
        return any(action in rule.actions and "**" in rule.repositories for rule in self.rules)

    @property
    def view_key(self) -> str:
        """Equal for clients that see the same repositories; empty if they see all."""
        if self.may_everywhere("pull"):
            return ""
        seen = {p for rule in self.rules if "pull" in rule.actions for p in rule.repositories}
        return f"{' '.join(sorted(seen))}\n"


def rights_to(*actions: Action) -> Rights:
    """The rights to these actions on every repository."""
    return Rights((Rule(("**",), frozenset(actions)),)) if actions else Rights()


@lru_cache(maxsize=4096)
def _matches(pattern: str, name: str) -> bool:
    """Returns True if the full name matches the pattern, such as `registry.example/team/**`."""
    return Pattern(pattern).matches(name)


# --- requirements


@dataclass(frozen=True, slots=True)
class Need:
    """An action on a repository.

    `writes`: True if it belongs to a request that writes, also for the `pull` of a mount's source.
    """

    action: Action
    name: Name
    writes: bool = True


@dataclass(frozen=True, slots=True)
class Everywhere:
    """An action on every repository: the web page shows all names, and archives hold any."""

    action: Action
    writes: bool = False


Requirement: TypeAlias = Ping | ListCatalog | Everywhere | Answer | tuple[Need, ...]
"""The rights that a request needs; an Answer is a refusal for everybody."""

PAGE_UPLOADS = "/ui/uploads"


def parse_needs(method: str, target: str) -> Requirement:
    """Parses the rights that a method and a raw request target need."""
    path = unquote(target.partition("?")[0])
    if path == PAGE or path.startswith(f"{PAGE}/"):
        writes = method not in READING and path.startswith(PAGE_UPLOADS)
        return Everywhere("push" if writes else "pull", writes)
    if is_write(method, target):
        return _needs_of(parse_write(method, target))
    intent = parse_request(method, target)
    if isinstance(intent, Ping | ListCatalog | Answer):
        return intent
    return (Need("pull", intent.name, writes=False),)


def _needs_of(intent: Write | Answer) -> Requirement:
    match intent:
        case Answer():
            return intent
        case DeleteManifest() | DeleteBlob():
            return (Need("delete", intent.name),)
        case MountBlob(source=Name() as source):
            return (Need("push", intent.name), Need("pull", source))
        case _:
            return (Need("push", intent.name),)


# --- decision


def judge(view: RegistryView, rights: Rights, need: Need, default_registry: str) -> Verdict:
    """Decides whether the rights cover a need. May block in the view."""
    if rights.may_everywhere(need.action) or (need.writes and need.action == "pull"):
        return "allowed"  # a mount considers only repositories that may be pulled
    found = [rights.may(need.action, each) for each in _affected(view, need, default_registry)]
    if all(found):
        return "allowed"
    return "partly" if need.action == "pull" and any(found) else "denied"


def _affected(view: RegistryView, need: Need, default_registry: str) -> Iterable[Repository]:
    if need.action == "push":
        return [push_target(need.name)]
    named = list(candidates(view, need.name, default_registry))
    if need.action == "pull":
        return named
    held = [each for each in named if each in view.repositories_at(each.path)]
    return held or [push_target(need.name)]
