"""Plans and writes mirror settings: what each file must become, then the change.

A plan starts from the text that others wrote. So a second `write` changes nothing, and one with
another address moves our lines. A file that cannot be changed does not block the others.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff
from pathlib import Path

from airside.containerd.mirror import hosts_toml as hosts
from airside.containerd.mirror.atomic_file import (
    change_file,
    is_there,
    missing_directories,
    names_in,
    read_text,
)
from airside.containerd.mirror.certs_d import default_directory, directory_of, registries_of
from airside.containerd.mirror.k0s_drop_in import with_directory
from airside.containerd.mirror.k3s_flags import flag_file, with_flag
from airside.containerd.mirror.locations import HostsNode, Node, RegistriesNode
from airside.containerd.mirror.managed_block import Foreign, without_ours
from airside.core.errors import AirsideError, ConflictError
from airside.core.host_root import host_root, in_host, leaves_host

_PRIVATE = 0o600
"""Of a new `registries.yaml`, which may come to hold passwords."""


@dataclass(frozen=True, slots=True)
class Change:
    """One file: its text, and the text that it must have (None: no file).

    `state` is `written` (a new file), `changed` (our lines are added), `unchanged` (they stand
    there already), `kept` (somebody else wrote the same), `removed` (the file is deleted),
    `restored` (our lines are removed) or `refused` because of `error`. `made` is how many
    directories above are deleted with the file.
    """

    runtime: str
    path: Path
    registries: tuple[str, ...]
    state: str
    before: str | None = None
    after: str | None = None
    made: int = 0
    notes: tuple[str, ...] = ()
    error: AirsideError | None = None

    def diff(self) -> str:
        """Returns the change as `diff -u` shows it; "" if there is none."""
        if self.error is not None or self.before == self.after:
            return ""
        before, after = ((t or "").splitlines(keepends=True) for t in (self.before, self.after))
        lines = unified_diff(before, after, str(self.path), str(self.path))
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def plan_write(
    nodes: Iterable[Node], url: str, registries: Sequence[str] | None, *, only: bool = False
) -> list[Change]:
    """Plans the files that make `url` the first mirror of these registries; None means all.

    `only`: and the end of the search, so that no registry is asked that is not in the files.
    """
    found: list[Change] = []
    for node in nodes:
        if isinstance(node, RegistriesNode):
            found.append(_in_registries(node, url, registries, only=only))
            found += _flag(node, only=only)
        else:
            wanted = registries_of(node) if registries is None else registries
            found += [_in_hosts(node, url, name, only=only) for name in wanted]
            if node.drop_in is not None:
                found.append(_drop_in(node, node.drop_in))
    return found


def plan_remove(nodes: Iterable[Node]) -> list[Change]:
    """Plans the removal of our lines from all files."""
    found: list[Change] = []
    for node in nodes:
        paths = _rancher_files(node) if isinstance(node, RegistriesNode) else _host_files(node)
        found += [change for path in paths for change in _without(node.runtime, path)]
    return sorted(found, key=lambda change: change.made)  # outer directories go last


def apply(changes: Iterable[Change]) -> list[Change]:
    """Writes the changes. A change that fails is returned as `refused`, with the error."""
    return [_applied(change) for change in changes]


def _applied(change: Change) -> Change:
    if change.error is not None or change.before == change.after:
        return change
    mode = 0o644 if change.path.name == hosts.FILE else _PRIVATE
    try:
        if leaves_host(change.path):
            raise ConflictError(
                f"a link in this path leads out of {host_root()}",
                hint="run the command in that host itself, such as in a chroot",
            )
        change_file(change.path, change.before, change.after, made=change.made, mode=mode)
    except AirsideError as exc:
        return replace(change, state="refused", error=_named(exc, change.path))
    return change


def _named(error: AirsideError, path: Path) -> AirsideError:
    """Returns the error with the file in its message."""
    if str(path) in error.message:
        return error
    return type(error)(f"{path}: {error.message}", **error.context, path=path)


# One file


def _planned(change: Change, decide: Callable[[Foreign, int | None], str]) -> Change:
    """Returns the change with the text that `decide` makes of what others wrote."""
    try:
        before = read_text(change.path)
        foreign = without_ours(before or "")
        made = missing_directories(change.path) if before is None else foreign.made
        after = decide(foreign, made)
    except AirsideError as exc:
        return replace(change, error=_named(exc, change.path))
    state = "written" if before is None else "changed"
    if after == before:
        state = "kept" if before == foreign.text else "unchanged"
    return replace(change, state=state, before=before, after=after)


def _without(runtime: str, path: Path) -> Iterator[Change]:
    """Yields the removal of our lines, if the file has any."""
    change = Change(runtime, path, (), "refused")
    try:
        before = read_text(path)
        foreign = without_ours(before or "")
    except AirsideError as exc:
        yield replace(change, error=_named(exc, path))
        return
    if before is None or foreign.text == before:
        return
    names = foreign.registries
    if path.name == hosts.FILE:
        names = (hosts.registry_of(path.parent.name),)
    change = replace(change, registries=names, before=before)
    if foreign.text or foreign.made is None:
        yield replace(change, state="restored", after=foreign.text)
    else:
        yield replace(change, state="removed", made=foreign.made)


# hosts.toml


def _in_hosts(node: HostsNode, url: str, registry: str, *, only: bool) -> Change:
    directory = directory_of(node, registry)
    notes: list[str] = []

    def decide(foreign: Foreign, made: int | None) -> str:
        if not is_there(directory) and registry != hosts.DEFAULT:
            _refuse_to_hide(node)
        beside = [] if foreign.text else names_in(directory)
        after = hosts.with_mirror(
            foreign, url, only=only, reader=node.reader, made=made, files=beside
        )
        notes.extend(
            f"{directory / hosts.FILE}: {name} is still asked when Airside lacks an image"
            for name in hosts.others(foreign.text, url) * only
        )
        result = foreign.text if after is None else after
        if node.reader is None and (fault := hosts.unread_by_1(result)):
            notes.append(f"{directory / hosts.FILE} is for containerd 2.0 and later: {fault}")
        return result

    change = Change(node.runtime, directory / hosts.FILE, (registry,), "refused")
    return replace(_planned(change, decide), notes=tuple(notes))


def _host_files(node: HostsNode) -> list[Path]:
    found = [root / name / hosts.FILE for root in node.roots for name in names_in(root)]
    return [*found, *([node.drop_in] if node.drop_in is not None else [])]


def _drop_in(node: HostsNode, path: Path) -> Change:
    """Returns the file by which k0s's containerd reads this directory."""
    directory = str(in_host(node.roots[0]))
    change = Change(node.runtime, path, (), "refused")
    return _planned(change, lambda foreign, made: with_directory(foreign, directory, made=made))


def _refuse_to_hide(node: HostsNode) -> None:
    """Raises ConflictError if a new directory would hide what others wrote for all registries.

    containerd uses no default for a registry that has a directory of its own.
    """
    default = default_directory(node)
    try:
        others = without_ours(read_text(default / hosts.FILE) or "").text
    except ConflictError:
        others = "changed by somebody"
    if others or any(name.endswith((".crt", ".cert")) for name in names_in(default)):
        raise ConflictError(
            f"a new directory would hide what somebody else wrote for all registries in {default}",
            hint="write --all puts Airside first there too",
        )


# registries.yaml


def _in_registries(
    node: RegistriesNode, url: str, registries: Sequence[str] | None, *, only: bool
) -> Change:
    from airside.containerd.mirror import registries_yaml as k3s  # noqa: PLC0415 - a YAML parser, only for K3s

    change = Change(node.runtime, node.path, tuple(registries or ()), "refused")
    notes: list[str] = []

    def decide(foreign: Foreign, made: int | None) -> str:
        nonlocal change
        if registries is None:
            names = [*k3s.all_registries(foreign.text), *foreign.registries]
        else:
            asked = [k3s.DEFAULT if name == hosts.DEFAULT else name for name in registries]
            names = [*asked, *foreign.registries]
        change = replace(change, registries=tuple(dict.fromkeys(names)))
        notes.extend(
            f"{name} has rewrites: {node.runtime} asks Airside for the rewritten names too"
            for name in k3s.rewritten(foreign.text)
            if name in names
        )
        notes.extend(
            f"{name} has configs in {node.path}: {node.runtime} still asks {name} itself last"
            for name in k3s.configured(foreign.text)
            if only and name in names
        )
        return k3s.with_mirrors(foreign, url, change.registries, reader=node.reader, made=made)

    planned = _planned(change, decide)
    return replace(planned, registries=change.registries, notes=tuple(notes))


def _rancher_files(node: RegistriesNode) -> list[Path]:
    return [flag_file(node.path), node.path]  # in one directory, which goes with the last one


def _flag(node: RegistriesNode, *, only: bool) -> Iterator[Change]:
    """Yields the file with K3s's setting for an end to the search, or its removal if it is ours."""
    path = flag_file(node.path)
    if not only:
        yield from _without(node.runtime, path)
        return
    change = Change(node.runtime, path, (), "refused")
    yield _planned(change, lambda foreign, made: with_flag(foreign, made=made))
