"""Findings about content that needed a secret elsewhere and needs none here. Pure."""

from collections.abc import Iterator

from airside.core.settings import Settings
from airside.diagnostics.doctor.facts import Facts
from airside.diagnostics.doctor.finding import Finding


def judge_openness(facts: Facts) -> Iterator[Finding]:
    settings = facts.settings
    if not settings.listen or facts.agent is None:
        return
    if settings.runtime != ("none",):
        yield _read_through(settings)
    with_secret = [u.registry for u in settings.upstream if u.credentials and not u.offline]
    if with_secret and not settings.offline:
        yield _upstreams(settings, ", ".join(with_secret))


def _read_through(settings: Settings) -> Finding:
    identity, subject, value = "registry.read-through", settings.listen, settings.read_through
    if value in {"open", "false"}:
        what = "what kubelet's records call open" if value == "open" else "nothing"
        return Finding(
            identity, "ok", subject, f"of containerd's images the registry serves {what}"
        )
    return Finding(
        identity,
        "warning",
        subject,
        f'read_through = "{value}": {_who(settings)} may pull every image that containerd holds, '
        "also those that it pulled with a secret; a pod without the secret runs them by digest, "
        "and kubelet then records them as open to every pod of the node",
        'set read_through = "open", unless none of the images is private',
    )


def _upstreams(settings: Settings, registries: str) -> Finding:
    identity, subject = "registry.upstream", settings.listen
    if not _is_open(settings):
        text = f"what is fetched from {registries} with credentials is served by the access rules"
        return Finding(identity, "ok", subject, text)
    return Finding(
        identity,
        "warning",
        subject,
        f"what is fetched from {registries} with the credentials of [[upstream]] may be pulled by "
        f"{_who(settings)}, and by every pod of a node that asks this registry first",
        'set htpasswd or access, and anonymous = "none"; or use credentials of an account that '
        "reads only what may be open",
    )


def _who(settings: Settings) -> str:
    if not _is_open(settings):
        return "everybody whom the access rules let pull its repository"
    return "everybody who reaches the registry, without a login,"


def _is_open(settings: Settings) -> bool:
    """Returns True if clients without a login may pull everything."""
    has_logins = bool(settings.htpasswd or settings.access or settings.client_ca)
    return settings.anonymous == "pull" or (settings.anonymous == "auto" and not has_logins)
