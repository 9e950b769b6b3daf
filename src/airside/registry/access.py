"""Who may do what: what a request needs, and whether rules allow it. Pure.

A request needs an action (`pull`, `push`, `delete`) on a repository; mounting a blob also needs
`pull` on where it comes from. Rules speak of the full name `host/path`, that of the catalog, and so
does everything here: a short path in a URL is judged by the repositories that it may mean.

Always holds:

- Reading sees only the repositories that may be pulled (`registry.visible`), so that a path which
  means several never leads around a rule.
- Writing needs every repository that it may touch: where a push goes to, and for a deletion, or
  where a blob is mounted from, all that exist under the name.
- A writing request that is not understood is refused here: nobody behind may understand it.

A `RegistryView` is asked, which may block. Passwords and tokens are left to `registry.accounts`,
waiting and answering to `registry.guard`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias
from urllib.parse import unquote

from airside.content import RegistryView
from airside.oci.reference import Repository, is_host, is_path, looks_like_host
from airside.registry.routes import (
    KINDS,
    Answer,
    ListCatalog,
    Name,
    Ping,
    candidates,
    normal_host,
    parse_query,
    parse_request,
    problem,
    repository_at,
)

Action: TypeAlias = Literal["pull", "push", "delete"]
Verdict: TypeAlias = Literal["allowed", "partly", "denied"]
"""`partly`: some of the repositories that the name may mean; only these are seen."""

ACTIONS: tuple[Action, ...] = ("pull", "push", "delete")
READING = frozenset({"GET", "HEAD"})
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

_PATTERN = re.compile(r"[A-Za-z0-9._:\[\]*-]+(?:/[A-Za-z0-9._*-]+)*\Z")
_MAX_DOUBLE_STARS = 4  # more only cost time
_PORT = re.compile(r"_(?=[0-9]{1,5}\Z)")


# --- rules


@dataclass(frozen=True, slots=True)
class Rule:
    """Actions on the repositories of these patterns: `*` within a segment, `**` of any number."""

    repositories: tuple[str, ...]
    actions: frozenset[Action]

    def covers(self, action: Action, repository: Repository) -> bool:
        name = str(repository)
        return action in self.actions and any(matches(p, name) for p in self.repositories)


@dataclass(frozen=True, slots=True)
class Rights:
    """What the rules together allow; without rules nothing."""

    rules: tuple[Rule, ...] = ()

    def may(self, action: Action, repository: Repository) -> bool:
        return any(rule.covers(action, repository) for rule in self.rules)

    def may_everywhere(self, action: Action) -> bool:
        return any(action in rule.actions and "**" in rule.repositories for rule in self.rules)

    @property
    def view_key(self) -> str:
        """The same for two that see the same repositories; empty where these are all."""
        if self.may_everywhere("pull"):
            return ""
        seen = {p for rule in self.rules if "pull" in rule.actions for p in rule.repositories}
        return f"{' '.join(sorted(seen))}\n"


def rights_to(*actions: Action) -> Rights:
    """These actions on every repository."""
    return Rights((Rule(("**",), frozenset(actions)),)) if actions else Rights()


def is_pattern(text: str) -> bool:
    """Whether a text can be a pattern of repositories; `**` must stand alone between slashes."""
    stars = [segment for segment in text.split("/") if "**" in segment]
    return bool(_PATTERN.match(text)) and set(stars) <= {"**"} and len(stars) <= _MAX_DOUBLE_STARS


def matches(pattern: str, name: str) -> bool:
    """Whether the full name of a repository fits a pattern: `registry.example/team/**`."""
    return bool(_compiled(pattern).match(name))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    *front, last = pattern.split("/")
    text = "".join("(?:.*/)?" if part == "**" else f"{_segment(part)}/" for part in front)
    return re.compile(f"{text}{'.+' if last == '**' else _segment(last)}\\Z")


def _segment(part: str) -> str:
    return "[^/]*".join(map(re.escape, part.split("*")))


# --- what a request needs


@dataclass(frozen=True, slots=True)
class Need:
    """`writes`: for a request that writes, also where it only reads from there."""

    action: Action
    name: Name
    writes: bool = True


Asked: TypeAlias = Ping | ListCatalog | Answer | tuple[Need, ...]
"""What is asked for; an Answer is a refusal that holds for everybody."""


def parse_needs(method: str, target: str) -> Asked:
    """What a method and a raw request target need."""
    path, _, query = target.partition("?")
    path = unquote(path)
    if method in WRITING or (method in READING and _is_upload(path)):
        return _parse_write(method, path, query)
    intent = parse_request(method, target)
    if isinstance(intent, Ping | ListCatalog | Answer):
        return intent
    return (Need("pull", intent.name, writes=False),)


def _is_upload(path: str) -> bool:
    return path.rpartition("/")[0].endswith("/blobs/uploads")


def _parse_write(method: str, path: str, raw_query: str) -> Asked:
    query = parse_query(raw_query)
    host = query.get("ns", "")
    if host and not is_host(host):
        return problem(400, "NAME_INVALID", f"ns is no registry host: {host[:300]!r}")
    text = _written_name(path)
    if not text:
        return problem(404, "UNSUPPORTED", f"nothing can be written at {path[:300]!r}")
    host = normal_host(host)
    deletes = method == "DELETE" and not _is_upload(path)
    source = query.get("from", "") if "mount" in query else ""
    if not is_path(text) or (source and not is_path(source)):
        message = f"{(text if not is_path(text) else source)[:300]!r} is no repository name"
        return problem(400, "NAME_INVALID", message)
    needs = (Need("delete" if deletes else "push", Name(text, host)),)
    return (*needs, Need("pull", Name(source, host))) if source else needs


def _written_name(path: str) -> str:
    """The `<name>` of `/v2/<name>/<kind>/<last>`, read from the end; "" where it is none."""
    if not path.startswith("/v2/"):
        return ""
    head, _, last = path.removeprefix("/v2/").rpartition("/")
    name, _, kind = head.rpartition("/")
    if kind == "uploads":
        name, _, kind = name.rpartition("/")
        return name if kind == "blobs" else ""
    return name if kind in KINDS and last else ""


# --- whether it is allowed


def pushed_to(name: Name) -> Repository:
    """Where a push goes: `?ns=`, else a first segment that looks like a host, else no host."""
    if name.host:
        return repository_at(name.host, name.text)
    first, _, path = name.text.partition("/")
    host = _PORT.sub(":", first)
    if path and looks_like_host(host):
        return repository_at(host, path)
    return Repository("", name.text)


def judge(view: RegistryView, rights: Rights, need: Need, default_registry: str) -> Verdict:
    """Whether rights cover a need. May block in the view."""
    if rights.may_everywhere(need.action):
        return "allowed"
    found = [rights.may(need.action, each) for each in _concerned(view, need, default_registry)]
    if all(found):
        return "allowed"
    return "denied" if need.writes or not any(found) else "partly"


def _concerned(view: RegistryView, need: Need, default_registry: str) -> Iterable[Repository]:
    if need.action == "push":
        return [pushed_to(need.name)]
    named = list(candidates(view, need.name, default_registry))
    if not need.writes:
        return named
    held = [each for each in named if each in view.repositories_at(each.path)]
    return held or [pushed_to(need.name)]
