"""Findings about the agent and its registry. Pure."""

from collections.abc import Iterator
from pathlib import Path

from airside.diagnostics.doctor.facts import Agent, Facts, Published
from airside.diagnostics.doctor.finding import Finding
from airside.diagnostics.pull_commands import reachable
from airside.diagnostics.verdict import BAD_STATES

_SHOWN = 5
"""Images that are named each; of more, the number is reported."""
_GOOD_ANSWERS = (200, 401)
_WRITERS = {
    "agent": "its own processes write layers",
    "unit": "airside-layers@.service writes layers",
}
_LOOPBACK = ("127.", "[::1]", "localhost")


def judge_agent(facts: Facts) -> Iterator[Finding]:
    agent = facts.agent
    if agent is None:
        return
    data = facts.settings.data
    yield _state(agent, data)
    if agent.state == "running":
        yield from _archives(agent, data)
        yield _registry(agent)
        if agent.fallback in _FALLBACK:
            yield _fallback(agent)
        for published in agent.published:
            yield _published(published, is_linked=_is_linked(published.socket, facts))
            if published.foreign_names:
                yield _foreign(published)
        yield from _unpublished(agent)


def _state(agent: Agent, data: Path) -> Finding:
    subject = str(data)
    if agent.state == "running":
        return Finding("agent", "ok", subject, f"the agent runs, process {agent.pid}")
    if agent.state == "absent":
        return Finding(
            "agent",
            "note",
            subject,
            "no agent runs: nothing is imported or served, and its state could not be checked",
            f"start it: airside run --data {data}",
        )
    if agent.state == "forbidden":
        return Finding(
            "agent",
            "note",
            subject,
            f"cannot connect to the agent: {agent.reason}",
            "run the doctor as root or as the user of the agent",
        )
    return Finding(
        "agent",
        "problem",
        subject,
        f"the agent does not answer: {agent.reason}",
        "check its log; if it hangs, restart it (no data is lost)",
    )


_FALLBACK = ("running", "failed")
"""The states that can be judged; it is `starting` for the first second."""


def _fallback(agent: Agent) -> Finding:
    if agent.fallback == "running":
        return Finding("agent.fallback", "ok", agent.listen, "the fallback server runs")
    return Finding(
        "agent.fallback",
        "problem",
        agent.listen,
        "no fallback server answers in the agent's place: pulls hang if the agent hangs; "
        f"{agent.fallback_reason}",
        "check the agent's log for the error of the fallback server; install the program of the "
        "agent again, then restart the agent",
    )


def _archives(agent: Agent, data: Path) -> Iterator[Finding]:
    bad = [f"{agent.archives[s]} {s}" for s in BAD_STATES if agent.archives.get(s)]
    total = sum(count for state, count in agent.archives.items() if state != "ignored")
    if bad:
        yield Finding(
            "archives",
            "warning",
            str(data),
            f"archives that are not imported completely: {', '.join(bad)}, of {total}",
            "run airside archives for the reason of each",
        )
    elif total:
        yield Finding("archives", "ok", str(data), f"{total} archives, none with problems")


def _is_linked(socket: str, facts: Facts) -> bool:
    """Returns True if the doctor could link or copy a file into this containerd just now."""
    return any(
        each.policy == "shared" and each.trial is not None and bool(each.trial.way)
        for each in facts.runtimes
        if each.socket == socket
    )


def _published(published: Published, *, is_linked: bool) -> Finding:
    identity, socket = "agent.runtime", published.socket
    if not published.connected:
        return Finding(
            identity,
            "problem",
            socket,
            f"the agent does not publish to it: {published.reason or 'not connected yet'}",
            "see the findings of this socket; the agent retries by itself",
        )
    if published.other_agent:
        return Finding(
            identity,
            "problem",
            socket,
            f"nothing is published to it: {published.reason}",
            "stop one of the two agents; this one publishes as soon as the other has ended. What "
            "the other published stays",
        )
    if published.streams_because:
        return Finding(
            identity,
            "warning",
            socket,
            f"the agent streams every blob, which is slow: {published.streams_because}",
            "restart the agent: blobs can be linked or copied now"
            if is_linked
            else "fix the findings containerd.link and containerd.sharing, then restart the agent",
        )
    who = _WRITERS.get(published.layers_written_by, "")
    who = f"containerd unpacks: {published.applies_because}" if published.applies_because else who
    text = "the agent publishes to it by hard links or copies"
    return Finding(identity, "ok", socket, f"{text}; {who}" if who else text)


def _unpublished(agent: Agent) -> Iterator[Finding]:
    """One finding for each image that a containerd lacks; pods that want it do not start."""
    for image in agent.unpublished[:_SHOWN]:
        retry = f"; next try at {image.next_try_at}" if image.next_try_at else ""
        yield Finding(
            "agent.unpublished",
            "problem" if image.state == "failed" else "warning",
            image.socket,
            f"{image.reference} is {image.state}: {image.reason}{retry}",
            _ADVICE[image.state],
        )
    if agent.unpublished_count > _SHOWN:
        yield Finding(
            "agent.unpublished",
            "problem" if any(i.state == "failed" for i in agent.unpublished) else "warning",
            "",
            f"containerd lacks {agent.unpublished_count - _SHOWN} more images",
            "run airside images for the reason of each",
        )


_ADVICE = {
    "failed": "resolve the reason, or replace the archive; the agent retries by itself",
    "waiting": "find who removes or moves it (kubelet's garbage collection, crictl rmi, another "
    "agent); the agent restores it by itself",
    "incomplete": "drop an archive that has all of it, or run airside verify --repair",
    "conflict": 'remove the other image, or set conflict = "ours"',
}
"""By the state of an image that containerd lacks."""


def _foreign(published: Published) -> Finding:
    return Finding(
        "agent.foreign-names",
        "note",
        published.socket,
        f"{published.foreign_names} names in it were published by another data directory; they "
        "are kept",
        "drop the archives of those that are needed here, or import the other's store (airside "
        "import OLD/oci); run airside runtime release for the others (--dry-run lists them)",
    )


def _registry(agent: Agent) -> Finding:
    if not agent.listen:
        return Finding(
            "registry",
            "note",
            "",
            "the agent serves no registry (listen is empty): nothing can be pulled from it",
            "set listen, for example to 127.0.0.1:5050, to let clients pull",
        )
    url = f"{'https' if agent.has_tls else 'http'}://{reachable(agent.listen)}/v2/"
    if agent.answer not in _GOOD_ANSWERS:
        answer = f"HTTP status {agent.answer}" if agent.answer else agent.answer_reason
        return Finding(
            "registry",
            "problem",
            url,
            f"the registry of the running agent does not answer: {answer}",
            "check whether another program uses the address or a firewall blocks it; restart the "
            "agent",
        )
    if not agent.listen.startswith(_LOOPBACK) and not agent.has_tls:
        return Finding(
            "registry",
            "warning",
            url,
            f"other hosts can reach the registry ({agent.listen}) without TLS: others on the "
            "network can read passwords, and change what clients pull by tag",
            "set tls_cert and tls_key, or listen on 127.0.0.1",
        )
    if not agent.listen.startswith(_LOOPBACK) and agent.is_open:
        return Finding(
            "registry",
            "note",
            url,
            f"other hosts can reach the registry ({agent.listen}) and pull without a login",
            'to require logins, set htpasswd or access, and anonymous = "none"',
        )
    return Finding("registry", "ok", url, "the registry answers")
