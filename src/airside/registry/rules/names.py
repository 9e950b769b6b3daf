"""The repositories that a name in a URL may mean. Pure.

The first of these that has the requested content:

1. `?ns=<host>` with the path, as containerd's mirrors ask: exactly that repository, no other.
2. The path as it was pushed, without a host.
3. The full name, a port's `:` written `_` (`registry.example_5000/foo`).
4. The path at the default registry (`library/` is added for docker.io).
5. The path at the only other host that has it. With two such hosts the 404 names both.

A `RegistryView` is asked, which may block.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from airside.oci.reference import DEFAULT_HOST, Repository, is_host, is_path, looks_like_host
from airside.ports.content import RegistryView

Found = TypeVar("Found")

_PORT = re.compile(r"_(?=[0-9]{1,5}\Z)")


@dataclass(frozen=True, slots=True)
class Name:
    """A repository's name in a URL: the spec's `<name>`, and the host of `?ns=` or ""."""

    text: str
    host: str = ""

    def __str__(self) -> str:
        return f"{self.host}/{self.text}" if self.host else self.text


def normal_host(host: str) -> str:
    return DEFAULT_HOST if host == "index.docker.io" else host


def repository_at(host: str, path: str) -> Repository:
    """The repository of a path at a host, completed as Docker does (`library/`)."""
    host = normal_host(host)
    return Repository(host, f"library/{path}" if host == DEFAULT_HOST and "/" not in path else path)


def any_repository(_repository: Repository) -> bool:
    """Returns True: the predicate of readable repositories without access rules."""
    return True


def push_target(name: Name) -> Repository:
    """The repository to which a push goes: at the host that the name has, else without a host."""
    if name.host:
        return repository_at(name.host, name.text)
    return _by_full_name(name) or Repository("", name.text)


def _by_full_name(name: Name) -> Repository | None:
    """The repository of a name whose first part is a host, with `_` before its port."""
    first, _, path = name.text.partition("/")
    host = _PORT.sub(":", first)
    if path and looks_like_host(host) and is_host(host):
        return repository_at(host, path)
    return None


def candidates(view: RegistryView, name: Name, default_registry: str) -> Iterator[Repository]:
    """Yields the repositories that a name may mean, in order; not all of them need exist."""
    if name.host:
        yield repository_at(name.host, name.text)
        return
    yield Repository("", name.text)
    full = _by_full_name(name)
    if full is not None:
        yield full
    yield repository_at(default_registry, name.text)
    others = other_hosts(view, name, default_registry)
    if len(others) == 1:
        yield others[0]


def other_hosts(view: RegistryView, name: Name, default_registry: str) -> list[Repository]:
    """The repositories of the same path at hosts other than the default; may block."""
    if name.host:
        return []
    known = {"", normal_host(default_registry)}
    return [found for found in view.repositories_at(name.text) if found.host not in known]


def name_in_url(repository: Repository) -> str:
    """The full name for URLs; "" if its host is not possible in one (IPv6, upper case)."""
    name = str(repository).replace(":", "_") if repository.host else repository.path
    return name if is_path(name) else ""


def first_found(
    view: RegistryView,
    name: Name,
    default_registry: str,
    look: Callable[[Repository], Found | None],
) -> Found | None:
    """The first result of `look` over the candidates that is not None; may block."""
    looked = (look(repository) for repository in candidates(view, name, default_registry))
    return next((found for found in looked if found is not None), None)


def existing(view: RegistryView, name: Name, default_registry: str) -> list[Repository]:
    """The candidates that exist in the view; may block."""
    asked = candidates(view, name, default_registry)
    return [found for found in asked if found in view.repositories_at(found.path)]
