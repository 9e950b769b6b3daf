"""Mirror settings: whether containerd asks Airside first. Pure."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from airside.diagnostics.doctor.facts import REACH_SECONDS, Facts, Mirror
from airside.diagnostics.doctor.finding import Finding
from airside.diagnostics.doctor.judge.proxies import proxy_for

_SLOW_SECONDS = 1.0
_DEFAULTS = ("_default", "*")
_GOOD_ANSWERS = (200, 401)


def judge_mirrors(facts: Facts) -> Iterator[Finding]:
    if facts.runtimes:
        for mirror in facts.mirrors:
            yield _mirror(mirror)
            if mirror.asked and not mirror.warning:
                yield _miss(mirror, facts)


def is_mirrored(facts: Facts, host: str = "") -> bool:
    """Returns True if every containerd with CRI asks Airside first, for this registry or all."""
    return bool(facts.mirrors) and all(
        _is_asked(each, host)
        and not (each.warning or each.reason or proxy_for(each.url, each.proxies))
        for each in facts.mirrors
    )


def _is_asked(mirror: Mirror, host: str) -> bool:
    if not host:
        return bool(mirror.asked) and not (mirror.lacking or mirror.ignored)
    by_default = any(name in mirror.asked for name in _DEFAULTS) and host not in mirror.lacking
    return host in mirror.asked or by_default


def why_unanswered(facts: Facts) -> str:
    """Returns what to do if Airside does not answer containerd; "" if it does, or unknown."""
    agent = facts.agent
    if agent is None or agent.state == "forbidden":
        return ""
    if agent.state != "running":
        return "start the agent, which containerd asks first"
    if not agent.is_open:
        return (
            "containerd asks Airside first, but sends no login to a mirror by default: set "
            'anonymous = "pull", or give containerd a token (docs/access.md)'
        )
    return "" if agent.answer in _GOOD_ANSWERS else "see the finding registry"


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
    proxy = proxy_for(mirror.url, mirror.proxies)
    if proxy:
        name = urlsplit(mirror.url).hostname
        return Finding(
            identity,
            "warning",
            subject,
            f"it asks {mirror.url} first, but through a proxy that its environment names",
            f"add {name} to NO_PROXY in containerd's environment, and restart containerd",
        )
    return Finding(
        identity, "ok", subject, f"it asks {mirror.url} first for {_names(mirror.asked)}"
    )


def _names(registries: tuple[str, ...]) -> str:
    others = "all others" if len(registries) > 1 else "any registry"
    return ", ".join(others if name in _DEFAULTS else name for name in registries)


def _miss(mirror: Mirror, facts: Facts) -> Finding:
    """What an image costs that Airside lacks: by the registry for which it costs most."""
    identity, subject = "containerd.miss", mirror.subject
    ours = facts.agent.miss_seconds if facts.agent is not None else None
    here = "" if ours is None else f"Airside says so after {ours * 1000:.0f} ms; "
    costs = {name: _cost(then, facts) for name, then in mirror.then.items() if then}
    if not costs:
        text = f"an image that Airside lacks is absent at once: {here}nothing else is asked"
        return Finding(identity, "ok", subject, text)
    name = max(costs, key=lambda each: costs[each])
    then = mirror.then[name]
    found = f"an image of {name} that Airside lacks: {here}then {_reaches(then, facts)}"
    if costs[name] < _SLOW_SECONDS:
        return Finding(identity, "ok", subject, found)
    return Finding(
        identity,
        "warning",
        subject,
        f"{found}: such a pull takes {costs[name]:.0f} s and more, and kubelet pulls one image "
        "after another by default, so that good pulls wait for it",
        f"if nothing else can answer here: {mirror.command} --only; else see why that is slow",
    )


def _cost(then: tuple[str, ...], facts: Facts) -> float:
    """The seconds of all that is asked, at least."""
    found = [facts.reached.get(address) for address in then]
    return sum(REACH_SECONDS if r.seconds is None else r.seconds for r in found if r is not None)


def _reaches(then: tuple[str, ...], facts: Facts) -> str:
    texts = []
    for address in then:
        reach = facts.reached.get(address)
        if reach is None:
            texts.append(f"{address} is asked")
        elif reach.seconds is None:
            texts.append(f"{address} does not answer within {REACH_SECONDS:.0f} s")
        elif reach.reason:
            texts.append(f"{address} fails after {reach.seconds:.2f} s ({reach.reason})")
        else:
            texts.append(f"{address} is reached in {reach.seconds:.2f} s")
    return ", then ".join(texts)
