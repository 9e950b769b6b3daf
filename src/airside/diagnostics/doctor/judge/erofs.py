"""Findings about containerd's snapshotter `erofs`: in use, possible, or what it lacks. Pure."""

from airside.diagnostics.doctor.facts import Erofs, Runtime
from airside.diagnostics.doctor.finding import Finding

IDENTITY = "containerd.erofs"
_DIFFER = (
    "install erofs-utils 1.8 or later on containerd's PATH, put erofs first in the diff service's "
    "default, and restart containerd"
)


def judge_erofs(runtime: Runtime) -> Finding | None:
    """Returns what to know of erofs; None for a containerd that does not have it."""
    erofs = runtime.erofs
    if erofs is None:
        return None
    if runtime.snapshotter == "erofs":
        return _in_use(runtime.socket, erofs)
    lacking = _lacking(erofs)
    if lacking:
        text = f"the snapshotter erofs is not in use; for it {lacking}"
    else:
        text = "the snapshotter erofs is not in use, and could be: unpacking makes no files with it"
    return Finding(IDENTITY, "ok", runtime.socket, text)


def _in_use(socket: str, erofs: Erofs) -> Finding:
    if erofs.differ_error:
        return Finding(
            IDENTITY,
            "problem",
            socket,
            f"containerd's differ erofs is not loaded: {erofs.differ_error}",
            _DIFFER,
        )
    if erofs.why_no_index:
        return Finding(
            IDENTITY,
            "warning",
            socket,
            f"containerd copies each layer, and gives directories that a layer does not list the "
            f"mode 0777, since Airside does not write them: {erofs.why_no_index}",
            "install erofs-utils 1.8 or later for the agent, and run Linux 6.4 or later",
        )
    return Finding(
        IDENTITY, "ok", socket, f"layers are written as an index and their tar, by {erofs.mkfs}"
    )


def _lacking(erofs: Erofs) -> str:
    """Returns what is missing for the snapshotter, "" if nothing."""
    if erofs.snapshotter_error:
        return f"containerd lacks something: {erofs.snapshotter_error}"
    if erofs.differ_error:
        return f"containerd's differ lacks something: {erofs.differ_error}"
    return erofs.why_no_index
