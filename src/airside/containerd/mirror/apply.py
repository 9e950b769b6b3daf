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
from airside.containerd.mirror.locations import HostsNode, Node, RegistriesNode
from airside.containerd.mirror.managed_block import Foreign, without_ours
from airside.core.errors import AirsideError, ConflictError

_PRIVATE = 0o600
"""A `registries.yaml` may come to hold passwords."""


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


def plan_write(nodes: Iterable[Node], url: str, registries: Sequence[str] | None) -> list[Change]:
    """Plans the files that make `url` the first mirror of these registries; None means all."""
    found: list[Change] = []
    for node in nodes:
        if isinstance(node, RegistriesNode):
            found.append(_in_registries(node, url, registries))
        else:
            wanted = _all_of(node) if registries is None else registries
            found += [_in_hosts(node, url, name) for name in wanted]
    return found


def plan_remove(nodes: Iterable[Node]) -> list[Change]:
    """Plans the removal of our lines from all files."""
    found: list[Change] = []
    for node in nodes:
        paths = [node.path] if isinstance(node, RegistriesNode) else _host_files(node)
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
    names = foreign.registries or (hosts.registry_of(path.parent.name),)
    change = replace(change, registries=names, before=before)
    if foreign.text or foreign.made is None:
        yield replace(change, state="restored", after=foreign.text)
    else:
        yield replace(change, state="removed", made=foreign.made)


# hosts.toml


def _in_hosts(node: HostsNode, url: str, registry: str) -> Change:
    directory = _directory(node, registry)

    def decide(foreign: Foreign, made: int | None) -> str:
        if not is_there(directory) and registry != hosts.DEFAULT:
            _refuse_to_hide(node)
        beside = [] if foreign.text else names_in(directory)
        after = hosts.with_mirror(foreign, url, reader=node.reader, made=made, files=beside)
        return foreign.text if after is None else after

    return _planned(Change(node.runtime, directory / hosts.FILE, (registry,), "refused"), decide)


def _directory(node: HostsNode, registry: str) -> Path:
    """Returns the directory of this registry: where containerd finds it, else the one to make."""
    default = _default(node)
    if registry == hosts.DEFAULT:
        return default
    for root in _searched(node):
        for name in hosts.directory_names(registry):
            if is_there(root / name):
                return root / name
    return node.roots[0] / registry


def _default(node: HostsNode) -> Path:
    """Returns the directory for all other registries: searched last, it hides none."""
    return _searched(node)[-1] / hosts.DEFAULT


def _searched(node: HostsNode) -> list[Path]:
    """Returns the roots up to the first with a `_default`, which ends containerd's search."""
    found: list[Path] = []
    for root in node.roots:
        found.append(root)
        if is_there(root / hosts.DEFAULT):
            break
    return found


def _all_of(node: HostsNode) -> list[str]:
    """Returns the default, and each registry with a directory, which gets no default."""
    own = [
        hosts.registry_of(name)
        for root in _searched(node)
        for name in names_in(root)
        if not name.startswith(".") and name != hosts.DEFAULT and (root / name).is_dir()
    ]
    return [hosts.DEFAULT, *dict.fromkeys(own)]


def _host_files(node: HostsNode) -> list[Path]:
    return [root / name / hosts.FILE for root in node.roots for name in names_in(root)]


def _refuse_to_hide(node: HostsNode) -> None:
    """Raises ConflictError if a new directory would hide what others wrote for all registries.

    containerd uses no default for a registry that has a directory of its own.
    """
    default = _default(node)
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


def _in_registries(node: RegistriesNode, url: str, registries: Sequence[str] | None) -> Change:
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
        return k3s.with_mirrors(foreign, url, change.registries, reader=node.reader, made=made)

    planned = _planned(change, decide)
    return replace(planned, registries=change.registries, notes=tuple(notes))
