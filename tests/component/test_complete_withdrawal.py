"""What a removal of Airside leaves in a container runtime: what containers use, without labels."""

from airside.containerd.complete_withdrawal import CompleteWithdrawal
from airside.ports.publication import AGENT_LABEL, ARCHIVES_LABEL, NamedImage
from support.publishing import NAME, SOCKET, Bench

OTHER = "docker.io/library/other:1"


def withdrawn(bench: Bench, *, dry_run: bool = False) -> dict[str, str]:
    found = CompleteWithdrawal(SOCKET, bench.node.catalog).run(bench.runtime, dry_run=dry_run)
    return {each.name: each.state for each in found}


def test_all_names_of_ours_go_and_those_of_others_stay(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    [target] = {image.target for image in bench.runtime.named.values()}
    foreign = {
        OTHER: NamedImage(OTHER, target),
        "a/b:1": NamedImage("a/b:1", target, {ARCHIVES_LABEL: "x", AGENT_LABEL: "another"}),
    }
    ours = set(bench.runtime.named)
    bench.runtime.named |= foreign
    assert withdrawn(bench, dry_run=True) == dict.fromkeys(ours, "withdrawn")
    assert ours < set(bench.runtime.named)
    assert withdrawn(bench) == dict.fromkeys(ours, "withdrawn")
    assert bench.runtime.named == foreign
    assert bench.node.catalog.published(SOCKET) == []
    assert withdrawn(bench) == {}


def test_what_a_container_uses_stays(bench: Bench) -> None:
    bench.drop(1)
    bench.drop(2, OTHER)
    bench.run()
    bench.runtime.wanted_now = {NAME}
    found = withdrawn(bench)
    assert found[NAME] == "used"
    assert found[OTHER] == "withdrawn"
    assert NAME in bench.runtime.named
    assert not any(OTHER in name for name in bench.runtime.named)
    assert not bench.runtime.named[NAME].pinned


def test_names_come_back_when_it_is_installed_again(bench: Bench) -> None:
    bench.drop(1)
    bench.run()
    before = set(bench.runtime.named)
    withdrawn(bench)
    bench.run(everything=True)
    assert set(bench.runtime.named) == before
