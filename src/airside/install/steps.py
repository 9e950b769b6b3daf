"""One change of an installation: planned, shown, and made. Blocking.

A plan reads the host and changes nothing. A file that somebody changed is never overwritten or
deleted: it is kept, or saved beside under a name that nothing reads.
"""

import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff
from pathlib import Path

from airside.containerd.mirror.atomic_file import change_file, is_there, read_text
from airside.core.errors import AirsideError, ConflictError, StoreError, UnavailableError
from airside.core.host_root import host_root, leaves_host
from airside.install.host import mounts_below
from airside.install.marked_text import is_unchanged, marked
from airside.store.filesystem import make_directories, sync_directory

SAVED = ".saved"
_COMMAND_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Step:
    """A change of the host.

    `action`: `directory`, `file`, `link`, `tree` or `command`. `state`: `made`, `written`,
    `changed`, `unchanged`, `kept` (somebody changed it), `saved` (the same, and renamed),
    `removed`, `run`; `failed` because of `error`. `text`: what a file becomes, a link's target.
    """

    action: str
    path: Path
    state: str
    before: str | None = None
    text: str | None = None
    mode: int = 0o644
    command: tuple[str, ...] = ()
    note: str = ""
    error: AirsideError | None = None

    def diff(self) -> str:
        """Returns the change of a file as `diff -u` shows it; "" if there is none."""
        if self.action != "file" or self.state not in {"written", "changed", "removed"}:
            return ""
        before, after = ((t or "").splitlines(keepends=True) for t in (self.before, self.text))
        return "".join(unified_diff(before, after, str(self.path), str(self.path)))


def directory(path: Path, mode: int) -> Step:
    """Plans a directory. The mode of one that exists stays."""
    return Step("directory", path, "unchanged" if is_there(path) else "made", mode=mode)


def file(path: Path, body: str, mode: int = 0o644) -> Step:
    """Plans a file of ours with this body."""
    text = marked(body)
    step = Step("file", path, "written", None, text, mode)
    try:
        before = read_text(path)
    except AirsideError as exc:
        return _failed(step, exc)
    step = replace(step, before=before)
    if before is None:
        return step
    if before in {text, body}:
        return replace(step, state="unchanged")
    if is_unchanged(before):
        return replace(step, state="changed")
    return replace(step, state="kept", note="it was changed by hand, and is kept as it is")


def link(path: Path, target: str) -> Step:
    """Plans a symbolic link."""
    found = path.readlink() if path.is_symlink() else None
    state = "unchanged" if found is not None and str(found) == target else "written"
    return Step("link", path, state, text=target)


def command(*words: str, note: str = "") -> Step:
    """Plans a command."""
    return Step("command", Path(words[0]), "run", command=words, note=note)


def without_file(path: Path, *bodies: str, saves: bool = True) -> list[Step]:
    """Plans the removal of a file of ours, or that has one of these bodies; [] if there is none.

    One that somebody changed is renamed, if `saves`, else kept.
    """
    try:
        before = read_text(path)
    except AirsideError as exc:
        return [_failed(Step("file", path, "failed"), exc)]
    if before is None:
        return []
    if is_unchanged(before) or before in bodies:
        return [Step("file", path, "removed", before)]
    if saves:
        saved = path.with_name(path.name + SAVED)
        return [Step("file", path, "saved", before, note=f"it was changed by hand: see {saved}")]
    return [Step("file", path, "kept", before, note="it was changed by hand")]


def without_link(path: Path) -> list[Step]:
    """Plans the removal of a symbolic link; [] if there is none."""
    return [Step("link", path, "removed")] if path.is_symlink() else []


def without_tree(path: Path, note: str = "") -> list[Step]:
    """Plans the removal of a directory with all that is in it; [] if there is none."""
    return [Step("tree", path, "removed", note=note)] if is_there(path) else []


def kept_tree(path: Path, note: str) -> Step:
    """Shows a directory that stays although its removal was asked for."""
    return Step("tree", path, "kept", note=note)


def without_directory(path: Path, *, gone: Iterable[Path] = ()) -> list[Step]:
    """Plans the removal of a directory that is empty once the paths in `gone` are."""
    try:
        left = set(path.iterdir()) - set(gone)
    except OSError:
        return []
    return [] if left else [Step("directory", path, "removed")]


def make(steps: Sequence[Step]) -> list[Step]:
    """Makes the changes, in order. One that fails is returned as `failed`; the others are made."""
    return [_made(step) for step in steps]


def _made(step: Step) -> Step:
    if step.state in {"unchanged", "kept", "failed"}:
        return step
    try:
        _refuse_to_leave(step)
        _ACTIONS[step.action](step)
    except OSError as exc:
        hint = "run the command as root (sudo)" if isinstance(exc, PermissionError) else None
        error = UnavailableError(
            f"cannot change {step.path}: {exc.strerror}", path=step.path, hint=hint
        )
        return replace(step, state="failed", error=error)
    except AirsideError as exc:
        return replace(step, state="failed", error=exc)
    return step


def _failed(step: Step, error: AirsideError) -> Step:
    if str(step.path) not in error.message:
        error = type(error)(f"{step.path}: {error.message}", **error.context, path=step.path)
    return replace(step, state="failed", error=error)


def _refuse_to_leave(step: Step) -> None:
    """Raises ConflictError if the change would be made outside of the directory of --root."""
    is_followed = step.state in {"made", "written", "changed"} and step.action != "link"
    if leaves_host(step.path if is_followed else step.path.parent):
        raise ConflictError(
            f"{step.path}: a link in this path leads out of {host_root()}",
            hint="run the command in that host itself, such as in a chroot",
            path=step.path,
        )


def _directory(step: Step) -> None:
    if step.state == "removed":
        step.path.rmdir()
        return
    make_directories(step.path, step.mode)


def _file(step: Step) -> None:
    if step.state == "saved":
        step.path.replace(step.path.with_name(step.path.name + SAVED))
        sync_directory(step.path.parent)
        return
    change_file(step.path, step.before, step.text, mode=step.mode)


def _link(step: Step) -> None:
    if step.state == "removed":
        step.path.unlink()
        return
    make_directories(step.path.parent)
    temporary = step.path.with_name(f".{step.path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(step.text or "")
    temporary.replace(step.path)


def _tree(step: Step) -> None:
    if mounts := mounts_below(step.path):
        raise ConflictError(
            f"{step.path} has another file system at {mounts[0]}: nothing in it was deleted",
            hint=f"umount {shlex.quote(mounts[0])}, and run the command again",
            path=step.path,
        )
    try:
        shutil.rmtree(step.path)
    except OSError:
        if not step.path.is_mount() or any(step.path.iterdir()):  # else it is empty now
            raise


def _command(step: Step) -> None:
    try:
        done = subprocess.run(
            step.command, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired as exc:
        raise StoreError(
            f"`{' '.join(step.command)}` did not end within {_COMMAND_SECONDS:.0f} s"
        ) from exc
    if done.returncode:
        raise StoreError(
            f"`{' '.join(step.command)}` ended with {done.returncode}: {done.stderr.strip()}",
            hint="journalctl -u airside -n 20" if "start" in " ".join(step.command) else None,
        )


_ACTIONS = {
    "directory": _directory,
    "file": _file,
    "link": _link,
    "tree": _tree,
    "command": _command,
}
