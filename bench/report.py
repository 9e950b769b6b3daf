"""Writes what was measured into docs/performance.md, between markers. Pure but for `write`.

A section stands between `<!-- bench NAME -->` and `<!-- /bench -->`, and is replaced as a whole by
the run that measured it; sections that a run did not measure stay, with the date and commit of
theirs.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairs import LIMIT, OURS, PEER, Measure, Ratio

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"


def write(sections: Mapping[str, str], document: Path = DOCUMENT) -> None:
    """Replace the sections in the document; one that has no markers there is left out."""
    document.write_text(replaced(document.read_text(), sections))


def replaced(text: str, sections: Mapping[str, str]) -> str:
    """Returns the text with new sections; one that has no markers in it is left out."""
    for name, new in sections.items():
        found = re.compile(f"(<!-- bench {re.escape(name)} -->\n).*?(<!-- /bench -->)", re.DOTALL)
        text = found.sub(lambda match, new=new: f"{match[1]}\n{new.strip()}\n\n{match[2]}", text)
    return text


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def conditions(told: Mapping[str, Any]) -> str:
    """Returns the sentence that begins each section."""
    where = told["machine"]
    text = (
        f"{told['date']}, commit {told['commit']}; {where['cores']} cores ({where['processor']}), "
    )
    text += f"{where['memory_gb']} GB, Linux {where['kernel']}; "
    text += f"the load was {told['load'][0]:.1f} to {told['load'][1]:.1f}"
    return text


def importing(measured: Sequence[Measure], told: Mapping[str, Any]) -> str:
    """Returns the section of the imports: the table and what is missed."""
    rounds = max((each.rounds for each in measured), default=0)
    done = [each for each in measured if each.rounds]
    rows = [
        [
            each.what,
            *(each.medians(side) for side in (OURS, PEER, LIMIT)),
            each.peer_ratio,
            each.peer_processor_ratio,
            each.limit_ratio,
            each.limit_processor_ratio,
        ]
        for each in done
    ]
    head = ["", "Airside", "`ctr`", "limit", "ctr / Airside", "its processor time"]
    head += ["Airside / limit", "its processor time"]
    used = told["set"]
    containerd = f"containerd {told['containerd']}, snapshotter {told['snapshotter']}"
    size = f"{used['layers']} layers, {used['entries']} entries, {used['megabytes']} MB"
    lines = [
        f"{conditions(told)}; {containerd}; the loop file in {told['directory']}.",
        f"Rounds: {rounds}. The set: {used['images']} images, {size}.",
        "",
        "Median seconds, processor seconds in brackets; ratios: median (worst-best).",
        "",
        table(head, rows),
        "",
        "The limits: " + "; ".join(f"{each.what}: {each.limit}" for each in done) + ".",
        "",
        *missed(done),
    ]
    skipped = [each.what for each in measured if not each.rounds]
    if skipped:
        lines += ["", "Not measured, for the time was over: " + "; ".join(skipped) + "."]
    ways = ", ".join(f"{count} {way}" for way, count in sorted(told["ways"].items()))
    lines += ["", f"Ways of the blobs into containerd, all rounds: {ways}."]
    return "\n".join(lines)


def missed(measured: Sequence[Measure]) -> list[str]:
    """Returns a line for each target, met or not."""
    rows = [
        [
            each.what,
            _verdict(">=", each.target_peer, each.peer_ratio.median),
            _verdict("<=", each.target_limit, each.limit_ratio.median),
        ]
        for each in measured
    ]
    return [table(["target", "`ctr` / Airside", "Airside / limit"], rows)]


def _verdict(how: str, target: float, reached: float) -> str:
    is_met = reached >= target if how == ">=" else reached <= target
    return f"{'met' if is_met else '**missed**'}: {reached:.2f}, aim {how} {target}"


def profiles(found: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> str:
    """Returns the section of the profiles."""
    lines = [f"{conditions(told)}; containerd {told['containerd']}."]
    for each in found:
        used = ", ".join(
            f"{role} {user:.2f} + {system:.2f}"
            for role, (user, system) in each["processes"].items()
        )
        functions = ", ".join(f"`{name}` {s:.2f}" for name, s in each["functions"].items())
        user, kernel = (sum(side) for side in zip(*each["processes"].values(), strict=True))
        lines += ["", f"**{each['name']}**", "", f"- user + system seconds: {used}"]
        lines += [f"- in the kernel: {kernel:.2f} of {user + kernel:.2f} seconds"]
        lines += [f"- in the agent: {functions}"]
        lines += [f"- stages: {stage}" for stage in each["stages"]]
    return "\n".join(lines)


def neighbour(found: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """Returns the section of the latencies beside an import."""
    rows = [
        [
            f"{what}, {when}",
            found[key][asked]["answers"],
            *(f"{found[key][asked][point]:.1f}" for point in ("p50_ms", "p99_ms", "most_ms")),
        ]
        for asked, what in (("manifest", "a manifest"), ("control", "a control command"))
        for key, when in (("alone", "four clients pulling"), ("during", "and an import"))
    ]
    took = f"{found['seconds']:.1f} s ({found['processor_seconds']:.1f} of processor)"
    lines = [f"{conditions(told)}. The import took {took} beside the pulls."]
    lines += ["The aim on two cores: p99 of a manifest under 50 ms, of a control command under"]
    lines += ["200 ms.", "", table(["milliseconds", "answers", "p50", "p99", "most"], rows)]
    return "\n".join(lines)


def eight(found: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """Returns the section of the memory of many imports at once."""
    return (
        f"{conditions(told)}. {found['archives']} archives, {found['megabytes']:.0f} MB, imported "
        f"and unpacked in {found['seconds']:.1f} s ({found['processor_seconds']:.1f} of "
        f"processor). The agent and its workers, {found['processes']} processes, had at most "
        f"{found['resident_mb']:.0f} MB at once (Pss), {found['anonymous_mb']:.0f} MB of it "
        f"anonymous; the agent alone at most {found['agent_peak_mb']:.0f} MB (VmHWM). The aim: "
        "160 MB."
    )


def observing(found: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """Returns the section of the imports that are watched."""
    alone, seen = zip(*found["pairs"], strict=True)
    longest = [max(each["seconds"] for each in side) for side in (alone, seen)]
    used = [sum(each["processor_seconds"] for each in side) for side in (alone, seen)]
    scrapes, loads = (sum(each[key] for each in seen) for key in ("scrapes", "loads"))
    wall, processor = (Ratio(**found[key]) for key in ("seconds", "processor_seconds"))
    return (
        f"{conditions(told)}. Pairs: {len(alone)}. Watched imports took {wall} times as long as "
        f"imports alone (longest: {longest[1]:.1f} and {longest[0]:.1f} s) and {processor} times "
        f"the agent's processor time ({used[1]:.1f} and {used[0]:.1f} s in all). {scrapes} scrapes "
        f"and {loads} loads of the page were answered."
    )


def rows(found: Sequence[Sequence[str]], told: Mapping[str, Any]) -> str:
    """Returns the section of a part that prints rows."""
    return f"{conditions(told)}.\n\n{table(['what', 'figure'], found)}"
