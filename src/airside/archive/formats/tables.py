"""Finds the tables of images in the members of one file, and drafts what each of them lists. Pure.

A file may hold several tars, joined by `cat`, and a tar may have a table twice, where another was
appended to it (`tar -A`, `tar -r`). Every tar is read by itself. In one tar the last table counts,
and what only an earlier one lists is read too. The images may be in one directory of a tar.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from airside.archive.formats.docker_manifest import MANIFEST_JSON, REPOSITORIES
from airside.archive.formats.index_json import INDEX_JSON
from airside.archive.formats.joined import JoinedDraft, RenamedDraft
from airside.archive.formats.nested import nested_directory, nested_note
from airside.archive.formats.plan import Draft, ReadMember
from airside.core.errors import ArchiveFormatError, ArchiveLimitError, InputError
from airside.core.problem import Problem

_TABLES = frozenset({INDEX_JSON, MANIFEST_JSON, REPOSITORIES})
_OLDER = re.compile(r"older ([0-9]+)//(.*)\Z", re.DOTALL)
_JOINED = re.compile(r"(tar [0-9]+)//(.*)\Z", re.DOTALL)
MOST_OLDER = 8
"""Earlier tables of one name that are kept: the latest ones."""
_MOST_TOLD = 20
"""Tars of one file without images that are told one by one."""

MakeDraft = Callable[[frozenset[str], Mapping[str, str], ReadMember], Draft]
"""Drafts the images among these files, with these links."""


def is_table(name: str) -> bool:
    """Returns True for a member whose earlier version is kept where another follows."""
    return name.rpartition("/")[2] in _TABLES


def older_name(name: str, number: int) -> str:
    """Returns the name under which an earlier version of a table is kept."""
    return f"older {number}//{name}"


@dataclass(slots=True)
class View:
    """The members of one tar by their names in it; `keys` has their names in the file."""

    title: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    older: dict[int, dict[str, str]] = field(default_factory=dict)

    @property
    def files(self) -> frozenset[str]:
        return frozenset(self.keys)

    def versions(self) -> Iterable[Mapping[str, str]]:
        """Yields the members with the last tables, then with each earlier version of them."""
        yield self.keys
        for number in sorted(self.older, reverse=True):
            yield {**self.keys, **self.older[number]}

    def descend(self, folder: str) -> None:
        """Drop what is outside a directory of the tar; `folder` ends in `/`."""
        self.keys = _within(folder, self.keys)
        self.older = {number: _within(folder, keys) for number, keys in self.older.items()}
        links = _within(folder, self.links)
        self.links = {n: t.removeprefix(folder) for n, t in links.items() if t.startswith(folder)}


def _within(folder: str, keys: Mapping[str, str]) -> dict[str, str]:
    return {n.removeprefix(folder): key for n, key in keys.items() if n.startswith(folder)}


def views_of(files: Iterable[str], links: Mapping[str, str], notes: list[str]) -> list[View]:
    """Returns the tars of a file, in their order; notes tell which directory holds the images."""
    views: dict[str, View] = {}
    for key in files:
        older = _OLDER.match(key)
        title, name = _split(older[2] if older else key)
        view = views.setdefault(title, View(title))
        if older:
            view.older.setdefault(int(older[1]), {})[name] = key
        else:
            view.keys[name] = key
    for key, target in links.items():
        title, name = _split(key)
        views.setdefault(title, View(title)).links[name] = _split(target)[1]
    for view in views.values():
        folder = nested_directory(view.files)
        if folder:
            notes.append(nested_note(folder, view.files))
            view.descend(folder)
    return sorted(views.values(), key=lambda view: (len(view.title), view.title)) or [View()]


def _split(key: str) -> tuple[str, str]:
    """Returns the title of the tar, empty for the first, and the member's name in it."""
    found = _JOINED.match(key)
    return (found[1], found[2]) if found else ("", key)


def draft_views(views: list[View], make: MakeDraft, read: ReadMember) -> Draft:
    """Drafts the tables of all tars. Raises InputError if the only tar, or all, have no images."""
    drafts: list[Draft] = []
    notes: list[str] = []
    problems: list[Problem] = []
    errors: list[InputError] = []
    for view in views:
        try:
            drafts.append(_draft_view(view, make, read))
        except ArchiveLimitError:
            raise
        except InputError as exc:
            errors.append(exc)
            title = view.title or "tar 1"
            if not isinstance(exc, ArchiveFormatError):
                reason = f"{title} of the file: {exc.message}"
                problems.append(Problem(reason, code=exc.code))
            elif len(notes) < _MOST_TOLD:
                notes.append(f"{title} of the {len(views)} joined in the file: {exc.message}")
    if not drafts:
        raise errors[0]
    if len(views) == 1:
        return drafts[0]
    untold = len(errors) - len(problems) - len(notes)
    if untold:
        notes.append(f"{untold} more of them hold no images")
    notes.append(f"{len(views)} tar archives are joined in the file: each is read")
    return JoinedDraft(tuple(drafts), notes=tuple(notes), problems=tuple(problems))


def _draft_view(view: View, make: MakeDraft, read: ReadMember) -> Draft:
    """Drafts the last tables of a tar, and what only earlier ones list. Raises InputError."""
    found: list[Draft] = []
    for number, keys in enumerate(view.versions()):
        try:
            draft = make(frozenset(keys), view.links, _reading(read, keys))
        except ArchiveLimitError:
            raise
        except InputError:
            if not number:
                raise
            continue  # an earlier version that was replaced because it is bad
        is_plain = all(name == key for name, key in keys.items())
        found.append(draft if is_plain else RenamedDraft(draft, keys))
    return found[0] if len(found) == 1 else JoinedDraft(tuple(found), are_older=True)


def _reading(read: ReadMember, keys: Mapping[str, str]) -> ReadMember:
    return lambda name: read(keys[name])
