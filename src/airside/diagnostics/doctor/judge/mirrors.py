"""Mirror settings: whether containerd asks Airside first. Pure."""

from collections.abc import Iterator

from airside.diagnostics.doctor.facts import Facts, Mirror
from airside.diagnostics.doctor.finding import Finding


def judge_mirrors(facts: Facts) -> Iterator[Finding]:
    if facts.runtimes:
        for mirror in facts.mirrors:
            yield _mirror(mirror)


def is_mirrored(facts: Facts) -> bool:
    """Returns True if every containerd with CRI asks Airside first, for every registry."""
    return bool(facts.mirrors) and all(
        each.asked and not (each.lacking or each.ignored or each.warning or each.reason)
        for each in facts.mirrors
    )


def _mirror(mirror: Mirror) -> Finding:
    identity, subject = "containerd.mirror", mirror.subject
    if mirror.reason:
        return Finding(
            identity,
            "note",
            subject,
            f"its mirror settings could not be read: {mirror.reason}",
            "run the doctor as root",
        )
    if mirror.warning and mirror.asked:
        return Finding(
            identity,
            "warning",
            subject,
            "mirror settings name Airside, but containerd does not read them",
            mirror.warning,
        )
    if mirror.ignored:
        return Finding(
            identity,
            "warning",
            subject,
            f"it ignores mirror settings, those of others too: {mirror.ignored}",
            f"correct or delete the file, then: {mirror.command}",
        )
    if mirror.lacking or not mirror.asked:
        return Finding(
            identity,
            "note" if mirror.asked else "warning",
            subject,
            f"it does not ask {mirror.url} first for {_names(mirror.lacking)}: a pull (pull policy "
            "Always) asks the original registry and fails without a network",
            "; ".join(filter(None, (mirror.command, mirror.warning))),
        )
    return Finding(
        identity, "ok", subject, f"it asks {mirror.url} first for {_names(mirror.asked)}"
    )


def _names(registries: tuple[str, ...]) -> str:
    others = "all others" if len(registries) > 1 else "any registry"
    return ", ".join(others if name in {"_default", "*"} else name for name in registries)
